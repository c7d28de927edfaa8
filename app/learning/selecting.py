"""Which chats are learned from, how much they offer, and what is left out of them and why.

Private chats and deleted ones are in none of it, whatever is asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from openchat_local.app.chats.errors import ChatNotFound
from openchat_local.app.chats.outlines import ChatOutline, Sieve
from openchat_local.app.chats.store import ChatStore
from openchat_local.app.learning.contradictions import contradictory
from openchat_local.app.learning.feedback import (
    CUT,
    REPEATED,
    THOUGHTS,
    UNJUDGED,
    Lesson,
    Pair,
    chat_lessons,
    pairs,
)
from openchat_local.app.learning.judgements import judged, judged_tally
from openchat_local.app.learning.rules import EXPERT, FeedbackRules, Judgement
from openchat_local.app.wording import counted

PRIVATE, DELETED, IMPORTED, EXCLUDED, NOTHING = (
    "private",
    "deleted",
    "imported",
    "excluded",
    "nothing",
)
"""Why chats are left out."""

LEAST_REPLIES = 8
LEAST_GOOD = 4
"""Fewer replies than these, in all and of the best class, move a model by chance."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which chats, and which of their replies: chats used last at or after `since` and before
    `until` (seconds since the epoch), with one of the `tags`, found by the words of `search`,
    with a reply by `model`; not the `excluded` ones, and of the rest `only` these (ids). Chats
    that were `imported` from other programs are in it where that is asked for, and so are
    `cut_replies` and the `thinking` that replies open with.
    """

    since: float | None = None
    until: float | None = None
    tags: frozenset[str] = frozenset()
    search: str = ""
    model: str | None = None
    excluded: frozenset[str] = frozenset()
    only: frozenset[str] | None = None
    imported: bool = False
    cut_replies: bool = False
    thinking: bool = False

    @property
    def sieve(self) -> Sieve:
        """What the store looks for."""
        return Sieve(self.since, self.until, self.tags, self.search, self.model)


@dataclass(frozen=True, slots=True)
class Offer:
    """A chat that can be learned from, and its replies by their class."""

    chat_id: str
    title: str
    updated_at: float
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Offers:
    """The chats that were used last first; `left_out` are chats and replies, by why."""

    offers: tuple[Offer, ...]
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Gathered:
    """Rows and pairs of all chats, those used last first; `left_out` as in `Offers`."""

    lessons: tuple[Lesson, ...]
    pairs: tuple[Pair, ...]
    left_out: Mapping[str, int]


def offers(store: ChatStore, selection: Selection, rules: FeedbackRules) -> Offers:
    """The chats of a selection that have a reply to learn from, also those it excludes: they
    can be taken in again. Reads no text, so what only a text tells (a reply that repeats
    another, or is all thoughts) is still counted. Raises ChatStoreError."""
    left_out = Counter[str]()
    found = []
    for chat in _open(store, selection, left_out):
        counts = _counts(chat, rules, left_out, cut_replies=selection.cut_replies)
        if counts:
            found.append(Offer(chat.id, chat.title, chat.updated_at, counts))
        else:
            left_out[NOTHING] += 1
    return Offers(tuple(found), +left_out)


def gather(store: ChatStore, selection: Selection, rules: FeedbackRules) -> Gathered:
    """What the chats of a selection teach, as they are now. A chat that was deleted or made
    private since it was selected is left out, and counted. Raises ChatStoreError."""
    left_out = Counter[str]()
    rows: list[Lesson] = []
    twos: list[Pair] = []
    for outline in _open(store, selection, left_out):
        if outline.id in selection.excluded:
            left_out[EXCLUDED] += 1
            continue
        try:
            chat, messages = store.whole_chat(outline.id)
        except ChatNotFound:
            left_out[DELETED] += 1
            continue
        if chat.private:
            left_out[PRIVATE] += 1
            continue
        found = chat_lessons(
            chat,
            messages,
            rules,
            cut_replies=selection.cut_replies,
            thinking=selection.thinking,
        )
        rows += found.lessons
        twos += pairs(chat, messages, thinking=selection.thinking)
        left_out.update(found.left_out)
        left_out[NOTHING] += not found.lessons
    return Gathered(tuple(rows), tuple(twos), +left_out)


def _open(store: ChatStore, selection: Selection, left_out: Counter[str]) -> Iterable[ChatOutline]:
    """The chats of a selection that may be looked at; the others are counted."""
    chats = store.outlines(selection.sieve)
    if selection.only is not None:
        chats = [chat for chat in chats if chat.id in selection.only]
        left_out[DELETED] += sum(
            not _is_there(store, id) for id in selection.only - {chat.id for chat in chats}
        )
    for chat in chats:
        if chat.hidden:
            left_out[DELETED] += 1
        elif chat.private:
            left_out[PRIVATE] += 1
        elif chat.origin is not None and not selection.imported:
            left_out[IMPORTED] += 1
        else:
            yield chat


def _is_there(store: ChatStore, chat_id: str) -> bool:
    try:
        store.chat(chat_id)
    except ChatNotFound:
        return False
    return True


def _counts(
    chat: ChatOutline, rules: FeedbackRules, left_out: Counter[str], *, cut_replies: bool
) -> dict[str, int]:
    counts: dict[str, int] = {}
    for (judgement, whole), number in _judged(chat).items():
        rule = rules[judgement]
        if rule.class_name is None or not rule.teaches:
            left_out[UNJUDGED] += number
        elif not (whole or cut_replies):
            left_out[CUT] += number
        elif number:
            counts[rule.class_name] = counts.get(rule.class_name, 0) + number
    return counts


def _judged(chat: ChatOutline) -> Mapping[tuple[Judgement, bool], int]:
    """How many replies have each judgement, and whether they are whole."""
    if chat.tally is not None:
        return {(each, True): number for each, number in judged_tally(chat.tally).items()}
    ends = {message.id: message.finish_reason for message in chat.messages}
    said = judged(chat.messages, chat.leaf_id)
    return Counter((judgement, ends[id] == "stop") for id, judgement in said.items())


_SENTENCES = {
    PRIVATE: ("private chat", "is never learned from", "are never learned from"),
    DELETED: ("deleted chat", "is left out", "are left out"),
    IMPORTED: ("chat of another program", "is left out", "are left out"),
    EXCLUDED: ("chat", "was taken out", "were taken out"),
    NOTHING: ("chat", "has no reply to learn from", "have no reply to learn from"),
    UNJUDGED: (
        "reply",
        "is not learned by the rules, such as an unrated one at the end of a chat",
        "are not learned by the rules, such as unrated ones at the end of a chat",
    ),
    CUT: ("reply", "broke off, and is not learned", "broke off, and are not learned"),
    REPEATED: (
        "reply",
        "says what the version that you kept says, and is not learned",
        "say what the versions that you kept say, and are not learned",
    ),
    THOUGHTS: ("reply", "is learned without its thoughts", "are learned without their thoughts"),
}


def left_out_in_words(left_out: Mapping[str, int]) -> list[str]:
    """A sentence for each reason why something is left out: "2 private chats are never learned
    from."."""
    return [
        f"{_counted(left_out[why], what)} {one if left_out[why] == 1 else several}."
        for why, (what, one, several) in _SENTENCES.items()
        if left_out.get(why)
    ]


def _counted(number: int, what: str) -> str:
    words = {"reply": "replies", "chat of another program": "chats of other programs"}
    if number != 1 and what in words:
        return f"{number:,} {words[what]}"
    return counted(number, what)


def shortfall(lessons: Sequence[Lesson]) -> str | None:
    """What is missing before training on these rows makes sense, with how much; None where
    nothing is."""
    total = sum(len(lesson.learned) for lesson in lessons)
    good = sum(len(lesson.learned) for lesson in lessons if lesson.class_name == EXPERT)
    if not total:
        return (
            "There is no reply to learn from yet: rate replies with + and -, or edit one into "
            f"what it should have said; {LEAST_GOOD} good ones of {LEAST_REPLIES} in all are "
            "enough to begin with."
        )
    if good < LEAST_GOOD:
        return (
            f"{good or 'None'} of {_counted(total, 'reply')} to learn from {_is(good)} rated good "
            f"or edited, and {LEAST_GOOD} are needed: rate or edit {LEAST_GOOD - good} more."
        )
    if total < LEAST_REPLIES:
        return (
            f"There are {total:,} replies to learn from, and {LEAST_REPLIES} are needed: rate or "
            f"edit {LEAST_REPLIES - total} more, or go on chatting."
        )
    both = contradictory(lessons)
    if both >= good:
        return (
            f"Every reply that is rated good ({good:,}) was rated bad as well after the same "
            "words, so there is nothing to tell good from bad by: take one of the ratings back."
        )
    return None


def remarks(lessons: Sequence[Lesson]) -> list[str]:
    """What a person should know of these rows, though they can be trained on."""
    found = []
    classes = {lesson.class_name for lesson in lessons}
    if len(classes) == 1:
        found.append(
            f"All replies are of one class ({classes.pop()}): the model learns what they say, and "
            "nothing about what is better than what. Rate some replies bad as well."
        )
    if both := contradictory(lessons):
        found.append(
            f"{_counted(both, 'reply')} {_is(both)} rated both good and bad after the same words; "
            "where nothing else was said, the good rating counts."
        )
    return found


def _is(number: int) -> str:
    return "is" if number == 1 else "are"
