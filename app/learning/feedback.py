"""One pure function from a chat to training rows, by what its owner did with each reply.

A chat is a tree of versions. Every reply that is learned is learned once, under the class of
its own judgement: a row is a path from the root to the last such reply, on which the replies of
other judgements, and those that another row has, are context.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from openchat_local.app.chats.records import Outcome
from openchat_local.app.learning.rules import FeedbackRules, Judgement, Rule
from openchat_local.app.replies.prompt import prompted
from openchat_local.models.conversation import Role

if TYPE_CHECKING:
    from openchat_local.app.chats import Chat, StoredMessage
    from openchat_local.app.chats.outlines import Tally

CUT, UNJUDGED, REPEATED, THOUGHTS = "cut", "unjudged", "repeated", "thinking"
"""Why replies, or their thoughts, are left out: the keys of `ChatLessons.left_out`."""


@dataclass(frozen=True, slots=True)
class LessonTurn:
    """A turn of a row. `weight` 0 is context only, None is worth the reward of the row.
    `message_id` is that of the message, the first where several prompts became one turn."""

    message_id: str
    role: Role
    content: str
    weight: float | None


@dataclass(frozen=True, slots=True)
class Lesson:
    """One training row. `condition` None is the model family's own for experts; `judgements`
    are by the ids of the replies among the turns."""

    chat_id: str
    title: str
    system_prompt: str
    turns: tuple[LessonTurn, ...]
    class_name: str
    condition: str | None
    reward: float
    judgements: Mapping[str, Judgement]

    @property
    def learned(self) -> tuple[LessonTurn, ...]:
        """The replies that have weight."""
        return tuple(turn for turn in self.turns if turn.weight is None)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two replies to what the `turns` end with, of which one is better."""

    chat_id: str
    system_prompt: str
    turns: tuple[LessonTurn, ...]
    chosen: LessonTurn
    rejected: LessonTurn


@dataclass(frozen=True, slots=True)
class ChatLessons:
    """What a chat teaches, and how many of its replies do not, by CUT, UNJUDGED and REPEATED;
    THOUGHTS are replies that are learned without their thoughts."""

    lessons: tuple[Lesson, ...]
    left_out: Mapping[str, int]


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


def lessons(
    chat: Chat,
    messages: Sequence[StoredMessage],
    rules: FeedbackRules,
    *,
    cut_replies: bool = False,
    thinking: bool = False,
) -> list[Lesson]:
    """The rows of a chat, those of the best class first. `messages` are all of the chat in the
    order they were made. Replies that were cut are context unless `cut_replies`; with `thinking`
    a reply is learned with the thoughts that it opens with."""
    found = chat_lessons(chat, messages, rules, cut_replies=cut_replies, thinking=thinking)
    return list(found.lessons)


def chat_lessons(
    chat: Chat,
    messages: Sequence[StoredMessage],
    rules: FeedbackRules,
    *,
    cut_replies: bool = False,
    thinking: bool = False,
) -> ChatLessons:
    """`lessons`, and what was left out."""
    judgements = judged(messages, chat.leaf_id)
    said = messages if thinking else _without_thoughts(messages)
    learned, left_out = _learned(said, judgements, rules, cut_replies=cut_replies)
    thoughts = sum(
        before.id in learned and before.content != after.content
        for before, after in zip(messages, said, strict=True)
    )
    if thoughts:
        left_out[THOUGHTS] = thoughts
    by_id = {message.id: message for message in said}
    rows = tuple(
        _lesson(chat, path, fresh, rule, judgements)
        for rule in rules.classes
        for path, fresh in _paths(
            by_id, [id for id, own in learned.items() if own.class_name == rule.class_name]
        )
    )
    return ChatLessons(rows, left_out)


def _learned(
    messages: Sequence[StoredMessage],
    judgements: Mapping[str, Judgement],
    rules: FeedbackRules,
    *,
    cut_replies: bool,
) -> tuple[dict[str, Rule], Counter[str]]:
    """The rule of every reply that is learned, by its id in the order they were made; and how
    many others there are, by why."""
    kept: dict[str | None, list[str]] = {}
    for message in messages:
        if judgements.get(message.id, Judgement.REPLACED) is not Judgement.REPLACED:
            kept.setdefault(message.parent_id, []).append(message.content.strip())
    learned: dict[str, Rule] = {}
    left_out = Counter[str]()
    for message in messages:
        if message.id not in judgements or not (words := message.content.strip()):
            continue
        judgement = judgements[message.id]
        rule = rules[judgement]
        if not rule.teaches:
            left_out[UNJUDGED] += 1
        elif message.finish_reason != "stop" and not cut_replies:
            left_out[CUT] += 1
        elif judgement is Judgement.REPLACED and any(
            version.startswith(words) for version in kept.get(message.parent_id, ())
        ):
            # The version that was kept says the same, or goes on from it: nobody disliked it.
            left_out[REPEATED] += 1
        else:
            learned[message.id] = rule
    return learned, left_out


def _paths(
    by_id: Mapping[str, StoredMessage], ids: Sequence[str]
) -> Iterator[tuple[list[StoredMessage], frozenset[str]]]:
    """The paths, from a root on, that end in each of these replies below which there is no other
    of them; and the replies of each path that are on none before it."""
    above: set[str] = set()
    for id in ids:
        parent = by_id[id].parent_id
        while parent is not None and parent not in above:
            above.add(parent)
            parent = by_id[parent].parent_id
    left = set(ids)
    for id in ids:
        if id not in above:
            path = _path_to(by_id, id)
            fresh = frozenset(message.id for message in path) & left
            left -= fresh
            yield path, fresh


def _path_to(by_id: Mapping[str, StoredMessage], id: str) -> list[StoredMessage]:
    path = [by_id[id]]
    while (parent := path[-1].parent_id) is not None:
        path.append(by_id[parent])
    return path[::-1]


def _lesson(
    chat: Chat,
    path: Sequence[StoredMessage],
    fresh: frozenset[str],
    rule: Rule,
    judgements: Mapping[str, Judgement],
) -> Lesson:
    assert rule.class_name is not None
    turns = _turns(chat, path, fresh)
    return Lesson(
        chat.id,
        chat.title,
        chat.system_prompt,
        turns,
        rule.class_name,
        rule.condition,
        rule.reward,
        {
            turn.message_id: judgements[turn.message_id]
            for turn in turns
            if turn.message_id in judgements
        },
    )


def _turns(
    chat: Chat, path: Sequence[StoredMessage], fresh: frozenset[str] = frozenset()
) -> tuple[LessonTurn, ...]:
    """A path as the model gets it when it is chatted with, but for the chat's system prompt."""
    asked = prompted(chat, path)
    return tuple(
        LessonTurn(
            path[start].id,
            message.role,
            message.content,
            None if message.role == "assistant" and path[start].id in fresh else 0.0,
        )
        for start, message in zip(asked.starts, asked.conversation.messages, strict=True)
        if start >= 0
    )


# Pairs

_GOOD, _FAIR, _POOR = 2, 1, 0
_LEVELS = {
    Judgement.EDITED: _GOOD,
    Judgement.LIKED: _GOOD,
    Judgement.CONTINUED: _FAIR,
    Judgement.DISLIKED: _POOR,
    Judgement.REPLACED: _POOR,
}


def pairs(chat: Chat, messages: Sequence[StoredMessage], *, thinking: bool = False) -> list[Pair]:
    """Every two whole replies to one prompt of which one was judged better: edited or rated
    good, before gone on from, before rated bad or left for another version."""
    judgements = judged(messages, chat.leaf_id)
    said = messages if thinking else _without_thoughts(messages)
    by_id = {message.id: message for message in said}
    versions: dict[str, list[tuple[int, StoredMessage]]] = {}
    for message in said:
        level = _LEVELS.get(judgements.get(message.id, Judgement.LEFT))
        whole = message.finish_reason == "stop" and message.content.strip()
        if level is not None and whole and message.parent_id is not None:
            versions.setdefault(message.parent_id, []).append((level, message))
    return list(_pairs(chat, by_id, versions))


def _pairs(
    chat: Chat,
    by_id: Mapping[str, StoredMessage],
    versions: Mapping[str, Sequence[tuple[int, StoredMessage]]],
) -> Iterator[Pair]:
    for parent_id, group in versions.items():
        if len({level for level, _ in group}) < 2:
            continue
        turns = _turns(chat, _path_to(by_id, parent_id))
        if not turns or turns[-1].role != "user":
            continue
        for level, better in group:
            for other, worse in group:
                if level > other and better.content.strip() != worse.content.strip():
                    yield Pair(chat.id, chat.system_prompt, turns, _turn(better), _turn(worse))


def _turn(reply: StoredMessage) -> LessonTurn:
    return LessonTurn(reply.id, reply.role, reply.content, None)


# Thoughts

# They open a reply. Where the template has opened them for the model, only their end is in its
# text, on a line of its own; elsewhere the word is a word.
_THOUGHTS = re.compile(
    r"\s*<think>.*?(?:</think>\s*|\Z)|(?:(?!<think>).)*?^[ \t]*</think>[ \t]*$\s*",
    re.DOTALL | re.MULTILINE,
)


def without_thoughts(text: str) -> str:
    """A reply without the thoughts that it opens with; "" where it broke off in them."""
    if "think>" not in text:
        return text
    found = _THOUGHTS.match(text)
    return text[found.end() :] if found else text


def _without_thoughts(messages: Iterable[StoredMessage]) -> list[StoredMessage]:
    return [
        replace(message, content=without_thoughts(message.content))
        if message.role == "assistant" and "think>" in message.content
        else message
        for message in messages
    ]
