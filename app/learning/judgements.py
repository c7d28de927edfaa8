"""What became of each reply of a chat, by the shape of its tree alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from openchat_local.app.chats.records import Outcome
from openchat_local.app.learning.rules import Judgement
from openchat_local.models.conversation import Role

if TYPE_CHECKING:
    from openchat_local.app.chats.outlines import Tally


class Outlined(Protocol):
    """What is asked of a message to judge it: StoredMessage and MessageOutline have it."""

    @property
    def id(self) -> str: ...
    @property
    def parent_id(self) -> str | None: ...
    @property
    def role(self) -> Role: ...
    @property
    def finish_reason(self) -> str | None: ...
    @property
    def rating(self) -> int | None: ...
    @property
    def edited(self) -> bool: ...
    @property
    def vote(self) -> Outcome | None: ...


def judged(messages: Sequence[Outlined], leaf_id: str | None = None) -> dict[str, Judgement]:
    """What became of every reply that has ended, by its id. `messages` are all of a chat in the
    order they were made, `leaf_id` is the end of the branch that is shown.

    A rating says it all, and so do an edit and a blind vote. Else an edit of it that came later
    replaces a reply; if not, it was gone on from; if not, it was left where a later version was
    asked for, or another one gone on from afterwards, unless it is what the chat shows in the end.
    """
    followed: dict[str | None, int] = {}
    versions: dict[str | None, list[tuple[int, Outlined]]] = {}
    for place, message in enumerate(messages):
        followed[message.parent_id] = place
        if message.role == "assistant" and message.finish_reason is not None:
            versions.setdefault(message.parent_id, []).append((place, message))
    judgements = {}
    for group in versions.values():
        for place, reply in group:
            judgements[reply.id] = _own(reply) or _by_what_came(
                place,
                followed.get(reply.id, -1),
                [
                    (at, followed.get(other.id, -1), other.edited)
                    for at, other in group
                    if other is not reply and _is_a_choice(other, reply)
                ],
                shown=reply.id == leaf_id,
            )
    return judgements


_UNDECIDED = ("tie", "skip", "unvoted")


def _is_a_choice(version: Outlined, reply: Outlined) -> bool:
    """Whether a reply may have been left for this version: it is whole, no edit that was then
    disliked, and none that was written together with it and not preferred."""
    together = reply.vote in _UNDECIDED and version.vote == reply.vote
    disliked = version.edited and version.rating == -1
    return version.finish_reason == "stop" and not (together or disliked)


def judged_tally(tally: Tally) -> dict[Judgement, int]:
    """How many replies of each judgement `judged` finds in a chat of this tally."""
    return {
        Judgement.EDITED: tally.edited,
        Judgement.LIKED: tally.liked,
        Judgement.DISLIKED: tally.disliked,
        Judgement.CONTINUED: tally.unrated - tally.last,
        Judgement.LEFT: int(tally.last),
    }


def _own(reply: Outlined) -> Judgement | None:
    """What is said of the reply itself."""
    if reply.rating == -1:
        return Judgement.DISLIKED
    if reply.edited:
        return Judgement.EDITED
    if reply.rating == 1:
        return Judgement.LIKED
    return _VOTED.get(reply.vote) if reply.vote else None


# The better of two need not be good: it is what one would have gone on from.
_VOTED: dict[Outcome, Judgement] = {
    "chosen": Judgement.CONTINUED,
    "other": Judgement.REPLACED,
}


def _by_what_came(
    place: int, followed: int, others: Sequence[tuple[int, int, bool]], *, shown: bool
) -> Judgement:
    """By what came after the reply at `place`, when the last message under it came at
    `followed`, and when its whole `others` came: (place, followed, edited into shape)."""
    if any(edited and at > max(place, followed) for at, _, edited in others):
        return Judgement.REPLACED
    if followed >= 0:
        return Judgement.CONTINUED
    left = any(at > place or gone_on > place for at, gone_on, _ in others)
    return Judgement.REPLACED if left and not shown else Judgement.LEFT
