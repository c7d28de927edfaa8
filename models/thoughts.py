"""The thoughts that a reply opens with, and where its answer begins.

Only at the head of a reply, and only of a model that is known to think, are the marks marks:
a `<think>` in the middle of an answer, in code that somebody asked for, is text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple


@dataclass(frozen=True, slots=True)
class ThoughtMarks:
    """What stands before a model's thoughts and between them and the answer; `answers` may
    stand before an answer, "" where nothing does."""

    opens: str
    closes: str
    answers: str = ""

    def around(self, thought: str, answer: str) -> str:
        """A reply as such a model writes it."""
        return f"{self.opens}\n{thought}\n{self.closes}\n\n{answer}"


USUAL = ThoughtMarks("<think>", "</think>")
"""Those of most models that think."""

Place = Literal["head", "thought", "between", "answer"]


class Part(NamedTuple):
    """A stretch of a reply, its marks and the white space around them left out."""

    thought: bool
    text: str


class Divided(NamedTuple):
    """A whole reply. `thought` is None where it has none; `closed` is False where it broke off
    in its thoughts. `answer` is the part of the text from `start` on."""

    thought: str | None
    answer: str
    closed: bool
    start: int


class ThoughtReader:
    """Tells thoughts from the answer while a reply is written. However its text is cut into
    pieces, the parts of all calls, joined by their kind, are the same.

    `place` is where the reply has got to: at its "head", as long as a mark may still come; in
    the "thought"; "between" it and the first word of the answer; in the "answer".
    """

    def __init__(self, marks: ThoughtMarks | None) -> None:
        """Without marks all is answer."""
        self.place: Place = "answer" if marks is None else "head"
        self.thinks = False  # whether there were thoughts
        self._marks = marks
        self._held = ""
        self._begun = False  # whether a word of them was told

    def feed(self, text: str) -> list[Part]:
        """What can be told of the text so far."""
        if self.place == "answer":
            return [Part(False, text)] if text else []
        self._held += text
        return [*self._parts()]

    def finish(self) -> list[Part]:
        """What was held back at the end of the reply."""
        held, self._held = self._held, ""
        if self.place == "thought":
            return [Part(True, held.rstrip())] if held.strip() else []
        return [Part(False, held)] if held and self.place in ("head", "answer") else []

    def _parts(self) -> Iterator[Part]:
        if self.place == "head":
            self._read_head()
        if self.place == "thought":
            yield from self._read_thought()
        if self.place == "between":
            self._read_between()
        if self.place == "answer" and self._held:
            held, self._held = self._held, ""
            yield Part(False, held)

    def _read_head(self) -> None:
        marks, begun = self._marks, self._held.lstrip()
        assert marks is not None
        if begun.startswith(marks.opens):
            self.place, self.thinks = "thought", True
            self._held = begun.removeprefix(marks.opens)
        elif marks.answers and begun.startswith(marks.answers):
            self.place, self._held = "between", begun.removeprefix(marks.answers)
        elif not marks.opens.startswith(begun) and not (
            marks.answers and marks.answers.startswith(begun)
        ):
            self.place = "answer"

    def _read_thought(self) -> Iterator[Part]:
        assert self._marks is not None
        closes = self._marks.closes
        at = self._held.find(closes)
        if at >= 0:
            thought, self._held = self._held[:at].rstrip(), self._held[at + len(closes) :]
            self.place = "between"
        else:
            # What may become the mark, and white space that may turn out to stand before it.
            end = len(self._held) - overlap(self._held, closes)
            thought = self._held[:end].rstrip()
            self._held = self._held[len(thought) :]
        if not self._begun:
            stripped = thought.lstrip()
            self._begun = bool(stripped)
            thought = stripped
        if thought:
            yield Part(True, thought)

    def _read_between(self) -> None:
        self._held = self._held.lstrip()
        if self._held:
            self.place = "answer"


def divide(text: str, marks: ThoughtMarks | None) -> Divided:
    """A whole reply, or what there is of one."""
    reader = ThoughtReader(marks)
    parts = [*reader.feed(text), *reader.finish()]
    thought = "".join(part.text for part in parts if part.thought)
    answer = "".join(part.text for part in parts if not part.thought)
    closed = not reader.thinks or reader.place != "thought"
    return Divided(thought if reader.thinks else None, answer, closed, len(text) - len(answer))


def overlap(text: str, mark: str) -> int:
    """The length of the longest end of `text` that begins `mark` without being all of it."""
    for length in range(min(len(text), len(mark) - 1), 0, -1):
        if text.endswith(mark[:length]):
            return length
    return 0
