"""One pure function from a chat to training rows, by what its owner did with each reply.

A chat is a tree of versions. Every reply that is learned is learned once, under the class of
its own judgement: a row is a path from the root to the last such reply, on which the replies of
other judgements, and those that another row has, are context. A path that is too long for a row
is several, each without the oldest turns, as a chat that has outgrown its context is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openchat_local.app.chats.thoughts import all_without_thoughts
from openchat_local.app.learning.fitting import LONGEST_ROW, Turns, cut_to, windows
from openchat_local.app.learning.judgements import judged
from openchat_local.app.learning.lesson import Lesson, LessonTurn, Pair
from openchat_local.app.learning.rules import FeedbackRules, Judgement, Rule
from openchat_local.app.replies.prompt import prompted

if TYPE_CHECKING:
    from openchat_local.app.chats import Chat, StoredMessage

__all__ = [
    "CUT",
    "REPEATED",
    "THOUGHTS",
    "UNJUDGED",
    "ChatLessons",
    "Lesson",
    "LessonTurn",
    "Pair",
    "chat_lessons",
    "judged",
    "lessons",
    "pairs",
]

CUT, UNJUDGED, REPEATED, THOUGHTS = "cut", "unjudged", "repeated", "thinking"
"""Why replies, or their thoughts, are left out: the keys of `ChatLessons.left_out`."""


@dataclass(frozen=True, slots=True)
class ChatLessons:
    """What a chat teaches, and how many of its replies do not, by CUT, UNJUDGED and REPEATED;
    THOUGHTS are replies that are learned without their thoughts."""

    lessons: tuple[Lesson, ...]
    left_out: Mapping[str, int]


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
    longest: int = LONGEST_ROW,
) -> ChatLessons:
    """`lessons`, and what was left out; no row takes more than `longest` bytes, unless a single
    exchange does."""
    judgements = judged(messages, chat.leaf_id)
    said = messages if thinking else all_without_thoughts(messages)
    learned, left_out = _learned(said, judgements, rules, cut_replies=cut_replies)
    thoughts = sum(
        before.id in learned and before.content != after.content
        for before, after in zip(messages, said, strict=True)
    )
    if thoughts:
        left_out[THOUGHTS] = thoughts
    by_id = {message.id: message for message in said}
    rows = tuple(
        _lesson(chat, turns, rule, judgements)
        for rule in rules.classes
        for path, fresh in _paths(
            by_id, [id for id, own in learned.items() if own.class_name == rule.class_name]
        )
        for turns in windows(_turns(chat, path, fresh), longest)
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


def _lesson(chat: Chat, turns: Turns, rule: Rule, judgements: Mapping[str, Judgement]) -> Lesson:
    assert rule.class_name is not None
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


def _turns(chat: Chat, path: Sequence[StoredMessage], fresh: frozenset[str] = frozenset()) -> Turns:
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
    said = messages if thinking else all_without_thoughts(messages)
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
        turns = cut_to(_turns(chat, _path_to(by_id, parent_id)), LONGEST_ROW)
        if not turns or turns[-1].role != "user":
            continue
        for level, better in group:
            for other, worse in group:
                if level > other and better.content.strip() != worse.content.strip():
                    yield Pair(chat.id, chat.system_prompt, turns, _turn(better), _turn(worse))


def _turn(reply: StoredMessage) -> LessonTurn:
    return LessonTurn(reply.id, reply.role, reply.content, None)
