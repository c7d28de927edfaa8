"""What of a training file a judge grades: the last answer of every conversation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from openchat_local.finetune.data.faults import DataError, Faults
from openchat_local.finetune.data.formats import Example
from openchat_local.finetune.data.lines import unit_of
from openchat_local.finetune.data.survey import MAX_CLASSES, read_examples
from openchat_local.finetune.evaluation.judging.grading import Answer

NOT_LEARNED = "whose last answer has a weight of 0"
NOTHING_ASKED = "without a user's turn before their last answer"
BEYOND_LIMIT = "beyond --limit"


@dataclass(frozen=True, slots=True)
class Entry:
    """A conversation that is graded. `line` is where it stands; `answer.index` its place among
    the entries. `weighed` says that the answer has a weight of its own, which comes before any
    reward of its conversation."""

    line: int
    class_name: str
    answer: Answer
    weighed: bool


@dataclass(frozen=True, slots=True)
class Entries:
    """The conversations of a file that are graded, in its order; `lines` are those of all good
    ones. `left_out` counts those that are not graded, by the reason."""

    path: Path
    entries: tuple[Entry, ...]
    lines: frozenset[int]
    left_out: Mapping[str, int]
    faults: Faults


def read_entries(
    path: Path, class_field: str | None = None, *, limit: int | None = None, skip_bad: bool = False
) -> Entries:
    """The last answers in `path`, of at most `limit` conversations of each class, the first.

    Raises DataError: with every bad line, unless `skip_bad` leaves them out; and where nothing
    is left to grade.
    """
    faults = Faults(path, unit=unit_of(path))
    entries: list[Entry] = []
    lines: set[int] = set()
    left_out, counts = Counter[str](), Counter[str]()
    for example in read_examples(path, class_field, lambda _: None):
        if not isinstance(example, Example):
            faults.add(example)
            continue
        lines.add(example.line)
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
    return Entries(path, tuple(entries), frozenset(lines), left_out, faults)


def _entry(example: Example, index: int) -> Entry | str:
    """What is graded of a conversation, or why nothing is."""
    last = max(i for i, turn in enumerate(example.messages) if turn.role == "assistant")
    if example.own_weight(last) == 0:
        return NOT_LEARNED
    before = example.messages[:last]
    if not before or before[-1].role != "user":
        return NOTHING_ASKED
    answer = Answer(index, before, example.messages[last].content)
    return Entry(example.line, example.class_name, answer, example.weights[last] is not None)


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
