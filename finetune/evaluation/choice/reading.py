"""Files of questions: each is a set; what is no question is named with its line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openchat_local.finetune.data.faults import DataError, Fault, Faults
from openchat_local.finetune.data.line import Line
from openchat_local.finetune.data.lines import places_of, read_lines
from openchat_local.finetune.evaluation.choice.formats import (
    Format,
    RowFault,
    format_of,
    known_formats,
)
from openchat_local.finetune.evaluation.choice.question import Question

_ENDINGS = (".jsonl", ".json")
_OF_OPENCHAT = ".zero-shot"  # in the names of all files of a suite


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """The questions of one file. `left_out` says, a sentence each, which rows of it are none."""

    name: str
    path: Path
    questions: tuple[Question, ...]
    left_out: tuple[str, ...] = ()
    format: str = ""


@dataclass(slots=True)
class _Reader:
    """What is known of a file so far."""

    faults: Faults
    format: Format | None = None
    ids: dict[str, int] = field(default_factory=dict)

    def question(self, line: Line) -> Question | Fault:
        """The question on `line`, or why there is none."""
        row, number = line.value, line.number
        if not isinstance(row, Mapping):
            return Fault(number, "", "is not an object of fields")
        format = format_of(row)
        if format is None:
            fields = ", ".join(list(map(str, row))[:8]) or "no fields"
            return Fault(number, "", "has no fields of a question", f"it has {fields}")
        if self.format is None:
            self.format = format
        if format is not self.format:
            return Fault(
                number, "", f"is a row of {format.name}, after rows of {self.format.name}",
            )  # fmt: skip
        try:
            question = format.read(row, number)
        except RowFault as fault:
            return Fault(number, fault.field, fault.kind, fault.detail)
        if question.id is not None:
            first = self.ids.setdefault(question.id, number)
            if first != number:
                detail = f"{question.id!r}, first on {self.faults.unit} {first}"
                return Fault(number, "id", "is that of another question", detail)
        return question


def question_files(paths: Sequence[Path]) -> list[Path]:
    """The files that `paths` name, in order, each once; a folder stands for the .jsonl and
    .json files in it and below. Raises DataError for a folder without any."""
    found: dict[Path, Path] = {}
    for path in paths:
        for file in _in_folder(path) if path.is_dir() else [path]:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def read_sets(
    paths: Sequence[Path], *, skip_bad: bool = False, limit: int | None = None
) -> list[QuestionSet]:
    """The sets in files or folders; of each at most the first `limit` questions.

    With `skip_bad` rows that are no questions are left out, and named by their set. Raises
    DataError where a file cannot be read, holds no question, or has such rows without it.
    """
    files = question_files(paths)
    names = _names(files)
    sets, faults = [], []
    for file in files:
        one, bad = _read(file, names[file], limit)
        sets.append(one)
        faults.append(bad)
    for one, bad in zip(sets, faults, strict=True):
        if not one.questions:
            raise _why_none(one, bad)
    listed = [f"{bad.path}, {text}" for bad in faults for text in bad.listing()]
    if listed and not skip_bad:
        counts = ", ".join(f"{bad.lines:,} of {bad.path}" for bad in faults if bad.lines)
        raise DataError(
            f"Nothing was measured; mend these rows ({counts}) or leave them out with --skip-bad:",
            listed,
        )
    return sets


def _why_none(one: QuestionSet, faults: Faults) -> DataError:
    if not faults.lines:
        return DataError(f"{one.path} is empty: name a file with a question a line.")
    if one.format:
        return DataError(f"{one.path} has no question in it:", one.left_out)
    return DataError(
        f"{one.path} has no question in it ({one.left_out[0]}). A row has these fields: "
        f"{known_formats()}."
    )


def _in_folder(folder: Path) -> list[Path]:
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _ENDINGS and path.is_file() and not path.name.startswith(".")
    )
    if not files:
        raise DataError(
            f"{folder} has no .jsonl or .json file in it; name a folder of questions, or a file."
        )
    return files


def _names(files: Sequence[Path]) -> dict[Path, str]:
    """A name for each, as short as tells them apart."""
    names = {file: file.stem.removesuffix(_OF_OPENCHAT) for file in files}
    if len(set(names.values())) < len(files):
        names = {file: f"{file.resolve().parent.name}/{name}" for file, name in names.items()}
    if len(set(names.values())) < len(files):
        names = {file: str(file) for file in files}
    return names


def _read(path: Path, name: str, limit: int | None) -> tuple[QuestionSet, Faults]:
    faults = Faults(path, places=places_of(path))
    reader = _Reader(faults)
    questions: list[Question] = []
    for found in _found(path, reader):
        if isinstance(found, Fault):
            faults.add([found])
        else:
            questions.append(found)
        if limit is not None and len(questions) >= limit:
            break
    format = reader.format.name if reader.format else ""
    return QuestionSet(name, path, tuple(questions), tuple(faults.listing()), format), faults


def _found(path: Path, reader: _Reader) -> Iterator[Question | Fault]:
    for line in read_lines(path):
        yield line if isinstance(line, Fault) else reader.question(line)
