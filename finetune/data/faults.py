"""Every problem of a file with its line and field, all of them at once, in bounded memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from openchat_local.finetune.data.line import MOST_IN_A_FILE
from openchat_local.models.errors import OpenChatError

SHOWN = 5  # of each kind; the rest are counted


@dataclass(frozen=True, slots=True)
class Places:
    """What the numbers of lines count: "line", "row" or "value"; in a folder also in which of
    its `files`, each with its own of `units`."""

    unit: str = "line"
    files: tuple[str, ...] = ()
    units: tuple[str, ...] = ()

    def told(self, number: int) -> str:
        """In words, such as "line 12" or "train-00001.parquet, row 12"."""
        place, within = divmod(number, MOST_IN_A_FILE)
        if place >= len(self.files):
            return f"{self.unit} {number}"
        unit = self.units[place] if place < len(self.units) else self.unit
        return f"{self.files[place]}, {unit} {within}"


LINES = Places()


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong at one place.

    `line` counts from 1, 0 is the file as a whole; `field` is a path such as
    ``messages[2].role``, "" for the whole line. `kind` is the sentence that faults of one
    sort share, `detail` what is particular to this one.
    """

    line: int
    field: str
    kind: str
    detail: str = ""

    def __str__(self) -> str:
        return self.told(LINES)

    def told(self, places: Places) -> str:
        """In words; `places` says what `line` counts."""
        place = places.told(self.line) if self.line else "the file"
        place += f", {self.field}" if self.field else ""
        return f"{place}: {self.kind}{f' ({self.detail})' if self.detail else ''}"

    def behind(self, number: int) -> Fault:
        """The same, `number` lines later."""
        return replace(self, line=self.line + number)


@dataclass(slots=True)
class _Kind:
    count: int = 0
    first: list[Fault] = field(default_factory=list)


@dataclass(slots=True)
class Faults:
    """The faults of the file at `path`: all counted, the first few of each kind kept.

    `lines` is how many lines have one, which is what `--skip-bad` leaves out; `places` puts
    their numbers into words.
    """

    path: Path
    lines: int = 0
    places: Places = LINES
    _kinds: dict[tuple[str, str], _Kind] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        """What is counted."""
        return self.places.unit

    def add(self, faults: Iterable[Fault]) -> None:
        """Take the faults of one line, or of the file as a whole."""
        line = 0
        for fault in faults:
            sort = re.sub(r"\[\d+\]", "[]", fault.field), fault.kind
            kind = self._kinds.setdefault(sort, _Kind())
            kind.count += 1
            if len(kind.first) < SHOWN:
                kind.first.append(fault)
            line = fault.line
        self.lines += line > 0

    def __len__(self) -> int:
        return sum(kind.count for kind in self._kinds.values())

    def listing(self) -> Iterator[str]:
        """One line of text a fault, kind by kind; long kinds end in "and 512 more"."""
        for kind in self._kinds.values():
            yield from (fault.told(self.places) for fault in kind.first)
            if kind.count > len(kind.first):
                yield f"… and {kind.count - len(kind.first):,} more of this kind"


class DataError(OpenChatError):
    """Data that cannot be trained on. `faults` names every problem, each with its place."""

    def __init__(self, sentence: str, faults: Iterable[str] = ()) -> None:
        self.faults = tuple(faults)
        super().__init__("\n  ".join([sentence, *self.faults]))


def refuse(*files: Faults, settings: Iterable[str] = (), done: str = "trained") -> None:
    """Raise DataError if any of `files` has a fault or `settings` (sentences) is not empty.
    `done` is what nothing was."""
    listed = [f"{file.path}, {text}" for file in files for text in file.listing()]
    listed += settings
    if not listed:
        return
    bad = [f"{file.lines:,} of {file.path}" for file in files if file.lines]
    mend = f"; mend these lines ({', '.join(bad)}) or leave them out with --skip-bad" if bad else ""
    raise DataError(f"Nothing was {done}{mend}:", listed)
