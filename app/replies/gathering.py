"""What goes along with a prompt: all that it mentions, as it is now.

An `@word` that is no file is a word: decorators, aliases and names begin with @ as well. A
document or a folder was surely meant: where it cannot be had, the prompt is held back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from openchat_local.app.replies.attachments import Attachment, attachments
from openchat_local.app.replies.mentions import Mention, mentions, without_mentions
from openchat_local.app.replies.reading import AS_SENT, Attached, AttachmentError, Shelf, Wish

FOLDER_TOKENS = 2000
"""What of a folder goes along where no context is known."""
MOST_FOLDER_TOKENS = 4000


@dataclass(frozen=True, slots=True)
class Gathered:
    """A prompt with what goes along, what cannot, and what is still to be read."""

    prompt: str
    attached: tuple[Attached, ...] = ()
    problems: tuple[AttachmentError, ...] = ()
    pending: tuple[Mention, ...] = ()

    @property
    def text(self) -> str:
        """The prompt as the model gets it."""
        return "\n\n".join([self.prompt, *(each.text for each in self.attached)])

    @property
    def held_back_by(self) -> AttachmentError | None:
        """Why the prompt had better not be sent, if there is a reason."""
        return next((each for each in self.problems if each.holds_back), None)

    @property
    def searched(self) -> bool:
        """Whether what goes along was chosen by a search, and not by who wrote the prompt."""
        return any(each.mention.is_searched for each in self.attached)


def room_in(context: int | None) -> int:
    """The tokens that a folder may fill of a context of so many tokens."""
    return FOLDER_TOKENS if not context else min(MOST_FOLDER_TOKENS, context // 3)


def gather(
    text: str,
    shelf: Shelf,
    *,
    room: int = FOLDER_TOKENS,
    stored: Sequence[Attachment] = (),
    read: bool = True,
    wanted: Callable[[], bool] = lambda: True,
) -> Gathered:
    """What goes along with a prompt.

    Of a folder up to `room` tokens do. `stored` are the files of the prompt that this is a new
    version of: they stay as they were sent. Without `read` nothing is read that takes long, and
    is `pending` instead. Raises Cancelled once `wanted` says no.
    """
    written, present = attachments(text)
    wish = Wish(without_mentions(written), room, read, wanted)
    found: list[Attached] = []
    problems: list[AttachmentError] = []
    pending: list[Mention] = []
    for mention in mentions(written):
        if any(_is_of(mention, each) for each in present):
            continue  # a message that was copied has them below already
        as_sent = tuple(each for each in stored if _is_of(mention, each))
        # Where it is searched other words find other passages.
        if as_sent and not (mention.is_searched and mention.exists):
            found.append(Attached(mention, as_sent, AS_SENT))
        elif mention.exists:
            try:
                attached = shelf.attached(mention, wish)
            except AttachmentError as problem:
                problems.append(problem)
            else:
                if attached is None:
                    pending.append(mention)
                else:
                    found.append(attached)
    return Gathered(text, tuple(found), tuple(problems), tuple(pending))


def missing(text: str) -> list[str]:
    """A sentence for each mention that was probably meant as a file, and is none."""
    return [
        f"@{each.name} is not there, so it stays a word of the prompt."
        for each in mentions(attachments(text)[0])
        if not each.exists and each.looks_like_a_file
    ]


def _is_of(mention: Mention, attachment: Attachment) -> bool:
    """Whether a stored file went along for this mention."""
    name, of = attachment.name, mention.name
    return name == of or name.startswith(f"{of} (") or name.endswith(f"; found in {of})")
