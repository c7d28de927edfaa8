"""A table of text (CSV, TSV) row by row, in bounded memory."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from openchat_local.finetune.data.faults import DataError, Fault
from openchat_local.finetune.data.line import MAX_LINE, Line
from openchat_local.finetune.data.numbers import as_number

DELIMITERS = ",;\t|"
# Cells of these columns are numbers or yes and no, where they look so: a table has only text.
_NUMBERS = frozenset({"reward", "weight"})
_VERDICTS = frozenset({"label", "kto_tag"})
_TRUTHS = {"true": True, "false": False}


class _TooLong(Exception):
    pass


def delimiter_of(header: str) -> str:
    """What parts the cells of the line `header`: whatever is there most often outside quotes."""
    bare = "".join(header.split('"')[::2])
    return max(DELIMITERS, key=bare.count)


def table_rows(file: TextIO, path: Path) -> Iterator[Line | Fault]:
    """The rows below the header, as objects by its names; the number is that of the line in which
    a row begins. `file` is open with newline="" and errors="surrogateescape".

    A cell that is empty is "". One that holds turns as JSON is a list of them. Raises DataError
    where there is no header, or a name is in it twice.
    """
    csv.field_size_limit(MAX_LINE)
    lines = _Lines(file)
    header = lines.peek()
    if not header.strip():
        return
    delimiter = delimiter_of(header)
    try:
        names = _names(next(csv.reader(lines, delimiter=delimiter)), path)
    except (_TooLong, csv.Error):
        raise DataError(
            f"{path} is a table without an end to the names of its columns, in its first line: is "
            "a quote not closed there?"
        ) from None
    while True:
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
        lines.begin()
        try:
            for cells in rows:
                number = lines.first
                lines.begin()
                if cells:
                    yield _row(number, names, cells)
            return
        except _TooLong:
            yield Fault(lines.first, "", f"is longer than {MAX_LINE >> 20} MiB")
        except csv.Error as error:
            yield Fault(lines.first, "", "is no row of a table", _why(str(error)))


class _Lines(Iterator[str]):
    """The lines of a file, counted; `first` is the number of the first since `begin`, and more
    than `MAX_LINE` characters since then are an error."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._peeked: str | None = None
        self._number = 0
        self._length = 0
        self.first = 1

    def peek(self) -> str:
        if self._peeked is None:
            self._peeked = self._file.readline(MAX_LINE)
        return self._peeked

    def begin(self) -> None:
        self.first = self._number + 1
        self._length = 0

    def __next__(self) -> str:
        line = self.peek()
        self._peeked = None
        if not line:
            raise StopIteration
        self._number += 1
        self._length += len(line)
        if self._length > MAX_LINE or len(line) == MAX_LINE:
            while line and not line.endswith("\n"):
                line = self._file.readline(2**16)
            raise _TooLong
        return line


def _names(cells: list[str], path: Path) -> list[str]:
    names = [cell.strip() or f"column {place}" for place, cell in enumerate(cells, 1)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path} has two columns named {twice!r}: give one another name.")
    return names


def _row(number: int, names: list[str], cells: list[str]) -> Line | Fault:
    if len(cells) != len(names):
        detail = "a quote that is not closed, or a delimiter in a text without quotes?"
        return Fault(
            number, "", f"has not as many cells as the {len(names):,} columns",
            f"{len(cells):,}; {detail}",
        )  # fmt: skip
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:  # bytes that were none came in as half characters
        return Fault(number, "", "is not UTF-8", "save the table as UTF-8")
    row = {name: _value(name, cell) for name, cell in zip(names, cells, strict=True)}
    return Line(number, {name: value for name, value in row.items() if value is not None})


def _value(name: str, cell: str) -> Any:
    if name in _NUMBERS:
        number = as_number(cell)
        return (cell.strip() or None) if number is None else number
    if name in _VERDICTS:
        return _TRUTHS.get(cell.strip().lower(), cell)
    return _turns(cell) or cell if cell.startswith("[") else cell


def _turns(cell: str) -> list[Any] | None:
    """The turns that a cell holds as JSON; None where it is merely a text with brackets."""
    try:
        listed = json.loads(cell)
    except (ValueError, RecursionError):
        return None
    return listed if all(isinstance(turn, dict | list) for turn in listed) else None


def _why(error: str) -> str:
    if "unexpected end of data" in error:
        return "a quote is not closed"
    if "field larger" in error:
        return f"a cell is longer than {MAX_LINE >> 20} MiB: a quote that is not closed?"
    return error
