"""What of a training file a judge grades: the last answer of every conversation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from openchat_local.finetune.data.example import Example
from openchat_local.finetune.data.examples import read_examples, with_span
from openchat_local.finetune.data.faults import DataError, Faults
from openchat_local.finetune.data.formats import columns_read
from openchat_local.finetune.data.lines import container_of
from openchat_local.finetune.data.reading import PLAIN, Reading
from openchat_local.finetune.data.survey import MAX_CLASSES
from openchat_local.finetune.data.taken import taken_for
from openchat_local.finetune.evaluation.judging.grading import Answer

NOT_LEARNED = "whose last answer has a weight of 0"
NOTHING_ASKED = "without a user's turn before their last answer"
BEYOND_LIMIT = "beyond --limit"

Place = tuple[int, int]
"""A line, and which of the conversations in it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A conversation that is graded. `line` is where it stands, and `part` which of those in its
    row it is; `answer.index` its place among the entries. `weighed` says that the answer has a
    weight of its own, which comes before any reward of its conversation."""

    line: int
    class_name: str
    answer: Answer
    weighed: bool
    part: int = 0

    @property
    def place(self) -> Place:
        """Tells it from all others of its file."""
        return self.line, self.part


@dataclass(frozen=True, slots=True)
class Entries:
    """The conversations of a file that are graded, in its order; `places` are those of all good
    ones. `left_out` counts those that are not graded, by the reason; `taken` says what the
    file was taken for."""

    path: Path
    entries: tuple[Entry, ...]
    places: frozenset[Place]
    left_out: Mapping[str, int]
    faults: Faults
    taken: tuple[str, ...] = ()


def read_entries(
    path: Path, reading: Reading = PLAIN, *, limit: int | None = None, skip_bad: bool = False
) -> Entries:
    """The last answers in `path`, of at most `limit` conversations of each class, the first.

    Raises DataError: with every bad line, unless `skip_bad` leaves them out; and where nothing
    is left to grade.
    """
    container = container_of(path, columns_read(reading))
    faults = Faults(path, places=container.places)
    entries: list[Entry] = []
    places: set[Place] = set()
    left_out, counts = Counter[str](), Counter[str]()
    formats, rows = Counter[str](), 0
    classes: set[str] = set()
    reading = with_span(path, reading, _any)
    for example in read_examples(path, reading, _any):
        if not isinstance(example, Example):
            faults.add(example)
            continue
        places.add(example.place)
        formats[example.format] += 1
        rows += example.part == 0
        classes.add(example.class_name)
        entry = _entry(example, len(entries))
        if isinstance(entry, str):
            left_out[entry] += 1
        elif limit is not None and counts[entry.class_name] >= limit:
            left_out[BEYOND_LIMIT] += 1
        else:
            counts[entry.class_name] += 1
            entries.append(entry)
    _refuse(path, faults, entries, skip_bad=skip_bad)
    if len(counts) > MAX_CLASSES:
        raise DataError(
            f"{path} has more than {MAX_CLASSES} classes: name a field that says who answered, "
            "or how well, with --class-field."
        )
    taken = tuple(taken_for(path, container, reading, formats, rows, classes))
    return Entries(path, tuple(entries), frozenset(places), left_out, faults, taken)


def _entry(example: Example, index: int) -> Entry | str:
    """What is graded of a conversation, or why nothing is."""
    last = max(i for i, turn in enumerate(example.messages) if turn.role == "assistant")
    if example.own_weight(last) == 0:
        return NOT_LEARNED
    before = example.messages[:last]
    if not before or before[-1].role != "user":
        return NOTHING_ASKED
    answer = Answer(index, before, example.messages[last].content)
    weighed = example.weights[last] is not None
    return Entry(example.line, example.class_name, answer, weighed, example.part)


def _any(_: Example) -> None:
    """No template has to write what is graded."""


def _refuse(path: Path, faults: Faults, entries: list[Entry], *, skip_bad: bool) -> None:
    listed = [f"{path}, {text}" for text in faults.listing()]
    if listed and not skip_bad:
        raise DataError(
            f"Nothing was graded; mend these {faults.unit}s ({faults.lines:,} of {path}) or leave "
            "them out with --skip-bad:",
            listed,
        )
    if not entries:
        raise DataError(f"{path} holds no answer to grade: name a file with more.", listed)
