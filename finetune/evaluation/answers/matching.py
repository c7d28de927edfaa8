"""How a reply is held against the right answer: `exact`, `number`, `boxed`, `regex=…`, `auto`.

A reply says its answer, or there is none in it; what cannot be found is no answer, and so not
a wrong one either. In a reply that was cut at its longest, only an answer counts that something
follows: "#### 4" may have been going to say 42.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from openchat_local.finetune.evaluation.answers.extraction import (
    after_hashes,
    is_letter,
    last_boxed,
    last_said,
    letter_at,
    normalised,
    normalised_latex,
)
from openchat_local.finetune.evaluation.answers.faults import AnswersError
from openchat_local.finetune.evaluation.answers.numbers import (
    Number,
    find_numbers,
    last_number,
    read_number,
)
from openchat_local.finetune.evaluation.answers.patterns import PatternSearcher, check_pattern

Kind = Literal["exact", "number", "boxed", "letter", "text", "regex"]
AUTO = "auto"
_RULES = ("auto", "exact", "number", "boxed")
_PATTERN = "regex="


@dataclass(frozen=True, slots=True)
class Rule:
    """What `--match` says: one of the names, or `regex` and its `pattern`."""

    name: str
    pattern: str = ""

    def __str__(self) -> str:
        return f"{_PATTERN}{self.pattern}" if self.pattern else self.name


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was found: as it was written, and the `key` that all share which say the
    same; `number` where it is one."""

    text: str
    key: str
    number: Number | None = None

    def is_same(self, other: Answer) -> bool:
        """Whether both say the same."""
        if self.number is not None and other.number is not None:
            return self.number.is_same(other.number)
        return self.key == other.key


@dataclass(frozen=True, slots=True)
class Gold:
    """The right answer, or several that count as right; `kind` is how it is looked for."""

    kind: Kind
    answers: tuple[Answer, ...]


def read_rule(text: str) -> Rule:
    """What somebody wrote behind `--match`. Raises AnswersError."""
    if text.startswith(_PATTERN) and len(text) > len(_PATTERN):
        pattern = text.removeprefix(_PATTERN)
        check_pattern(pattern)
        return Rule("regex", pattern)
    if text not in _RULES:
        raise AnswersError(
            f"--match {text} is not known: it is {', '.join(_RULES)}, or regex=PATTERN, such as "
            r"'regex=Result: (\d+)'."
        )
    return Rule(text)


def gold_of(rule: Rule, texts: Sequence[str]) -> Gold | None:
    """The right answers `texts` as `rule` takes them; None where one of them holds no answer of
    this sort. "auto" looks at them: "#### 42" and 42 are numbers, ``\\boxed{x}`` a formula, (B) a
    letter, all else text, and so are several of different sorts."""
    kind = _kind_of(texts) if rule.name == AUTO else _named(rule)
    answers = [_gold_answer(kind, text) for text in texts]
    if any(answer is None or not answer.key for answer in answers):
        return None
    return Gold(kind, tuple(answer for answer in answers if answer is not None))


class Reader:
    """Finds the answers in replies. A context manager: with a pattern there is a child process."""

    def __init__(self, rule: Rule) -> None:
        self._patterns = PatternSearcher(rule.pattern) if rule.pattern else None

    def found(self, reply: str, kind: Kind, *, cut: bool) -> Answer | None:
        """The answer that `reply` gives, if it gives one; `cut` where it broke off. Raises
        TooSlow for a pattern that does not come to an end."""
        if self._patterns is not None:
            place = self._patterns.search(reply)
            return None if place is None or _at_the_cut(reply, place[1], cut) else _text(place[0])
        if kind == "exact":
            return None if cut or not normalised(reply) else _text(reply.strip())
        marked = _marked(reply, cut)
        if kind == "number":
            return _number_in(marked) if marked is not None else _last_number(reply, cut)
        if kind == "boxed":
            return _formula(marked) if marked is not None else _last_number(reply, cut)
        if kind == "letter":
            letter = letter_at(marked) if marked is not None else letter_at(reply, alone=True)
            return None if letter is None else Answer(letter, letter)
        if marked is not None:
            return _text(marked)
        return None if cut or not normalised(reply) else _text(reply.strip())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._patterns is not None:
            self._patterns.close()


def is_right(answer: Answer | None, gold: Gold) -> bool:
    """Whether `answer` is one of the right ones."""
    return answer is not None and any(answer.is_same(right) for right in gold.answers)


def _named(rule: Rule) -> Kind:
    known: dict[str, Kind] = {
        "exact": "exact", "number": "number", "boxed": "boxed", "regex": "regex",
    }  # fmt: skip
    return known[rule.name]


def _kind_of(golds: Sequence[str]) -> Kind:
    kinds = {_kind_of_one(gold) for gold in golds}
    return kinds.pop() if len(kinds) == 1 else "text"


def _kind_of_one(gold: str) -> Kind:
    if (boxed := last_boxed(gold)) is not None:
        return "boxed" if _plain_number(boxed.says) is None else "number"
    hashes = after_hashes(gold)
    plain = gold if hashes is None else hashes.says
    if _plain_number(plain) is not None:
        return "number"
    if is_letter(plain):
        return "letter"
    return "boxed" if "\\" in plain else "text"


def _gold_answer(kind: Kind, gold: str) -> Answer | None:
    marked = after_hashes(gold) or last_boxed(gold)
    plain = gold.strip() if marked is None else marked.says
    if kind == "number":
        number = _plain_number(plain)
        if number is None and marked is None:
            return _last_number(gold, cut=False)
        return _number_in(plain) if number is None else Answer(plain, str(number), number)
    if kind == "boxed":
        return _formula(plain)
    if kind == "letter":
        letter = letter_at(plain)
        return None if letter is None else Answer(letter, letter)
    return _text(plain)


def _marked(reply: str, cut: bool) -> str | None:
    """What stands behind the last mark of an answer, of the first sort of mark that there is."""
    for look in (after_hashes, last_boxed, last_said):
        mark = look(reply)
        if mark is not None and _at_the_cut(reply, mark.end, cut):
            mark = look(reply[: mark.start])  # said before, and gone on from
        if mark is not None:
            return mark.says
    return None


def _at_the_cut(reply: str, end: int, cut: bool) -> bool:
    return cut and not reply[end:].strip(" \t")


def _last_number(reply: str, cut: bool) -> Answer | None:
    """The last number anywhere; of a reply that was cut it is one of the reasoning."""
    number = None if cut else last_number(reply)
    return None if number is None else _of_number(reply, number)


def _number_in(marked: str) -> Answer | None:
    """The number that a marked answer says: "5 + 3 = 8" says 8, "8 apples, 3 more" 8."""
    _, equals, last = marked.rpartition("=")
    place = last if equals and any(find_numbers(last)) else marked
    number = next(find_numbers(place), None)
    return None if number is None else _of_number(place, number)


def _of_number(text: str, number: Number) -> Answer:
    return Answer(text[number.start : number.end].strip(), str(number), number)


def _formula(text: str) -> Answer | None:
    number = _plain_number(text)
    if number is not None:
        return Answer(text, str(number), number)
    key = normalised_latex(text)
    # "x = 5" is 5, and so is "5 apples".
    number = read_number(key)
    return Answer(text, key if number is None else str(number), number)


def _text(text: str) -> Answer:
    key = normalised(text)
    number = read_number(key)
    return Answer(text, key if number is None else str(number), number)


def _plain_number(text: str) -> Number | None:
    return read_number(normalised(text))
