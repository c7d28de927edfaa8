"""Every problem of a file with its line and field, all of them at once, in bounded memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from openchat_local.models.errors import OpenChatError

SHOWN = 5  # of each kind; the rest are counted


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
        return self.told("line")

    def told(self, unit: str) -> str:
        """In words; `unit` is what `line` counts."""
        place = f"{unit} {self.line}" if self.line else "the file"
        place += f", {self.field}" if self.field else ""
        return f"{place}: {self.kind}{f' ({self.detail})' if self.detail else ''}"


@dataclass(slots=True)
class _Kind:
    count: int = 0
    first: list[Fault] = field(default_factory=list)


@dataclass(slots=True)
class Faults:
    """The faults of the file at `path`: all counted, the first few of each kind kept.

    `lines` is how many lines have one, which is what `--skip-bad` leaves out; `unit` what
    their number counts.
    """

    path: Path
    lines: int = 0
    unit: str = "line"
    _kinds: dict[tuple[str, str], _Kind] = field(default_factory=dict)

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
            yield from (fault.told(self.unit) for fault in kind.first)
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
