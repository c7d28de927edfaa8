"""A JSONL file line by line, or the values of a file that is one JSON list, in bounded memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TextIO

from openchat_local.finetune.data.faults import DataError, Fault

BOM = b"\xef\xbb\xbf"
_CHUNK = 16 * 2**10
MAX_LINE = 16 * 2**20  # bytes; some forty times what any model here can attend to


class Line(NamedTuple):
    """Line `number` (from 1) of a file as the JSON `value` that it is."""

    number: int
    value: Any


def read_lines(path: Path) -> Iterator[Line | Fault]:
    """The JSON value, or the fault, of every line of `path` that is not blank; of a file that
    is one JSON list, every value in it, counted from 1.

    A line or value over `MAX_LINE` bytes is a fault and is never held in memory. Raises
    DataError if the file cannot be read, is a pipe, or is a list that breaks off.
    """
    refuse_unreadable(path)
    try:
        with path.open("rb") as file:
            if _is_list(file):
                yield from _values(path)
                return
            for number, data in enumerate(_bounded(file), 1):
                if data is None:
                    yield Fault(number, "", f"is longer than {MAX_LINE >> 20} MiB")
                else:
                    yield from _parsed(number, data.removeprefix(BOM) if number == 1 else data)
    except OSError as error:
        raise _unreadable(path, error) from error


def unit_of(path: Path) -> str:
    """What `Line.number` counts in this file: "line", or "value" of one JSON list."""
    if path.is_file():  # to open a pipe is to wait for its other end
        with suppress(OSError), path.open("rb") as file:
            return "value" if _is_list(file) else "line"
    return "line"


def refuse_unreadable(path: Path) -> None:
    """Raise DataError where `path` is no file that can be read, which is soon known, and for a
    pipe: data are read more than once, and by another process."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise DataError(
                f"{path} is a pipe or a device, and data are read more than once: write them "
                "into a file first, and name that."
            )
        path.open("rb").close()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> DataError:
    reason = "is a folder" if path.is_dir() else error.strerror or str(error)
    return DataError(f"{path} cannot be read ({reason}); name a JSONL file.")


def _bounded(file: BinaryIO) -> Iterator[bytes | None]:
    """The lines of `file`; None for one that is too long."""
    while data := file.readline(MAX_LINE + 1):
        if len(data) <= MAX_LINE or data.endswith(b"\n"):
            yield data.rstrip(b"\r\n")
            continue
        while (rest := file.readline(65536)) and not rest.endswith(b"\n"):
            pass
        yield None


def _parsed(number: int, data: bytes) -> Iterator[Line | Fault]:
    if data and not data.isspace():
        yield _value(number, data)


def _value(number: int, data: bytes) -> Line | Fault:
    try:
        return Line(number, json.loads(data.decode("utf-8")))
    except UnicodeDecodeError as error:
        return Fault(number, "", "is not UTF-8", f"byte {error.start + 1:,}")
    except json.JSONDecodeError as error:
        return Fault(number, "", "is not JSON", f"column {error.colno:,}: {error.msg}")
    except RecursionError:
        return Fault(number, "", "is not JSON", "nested too deeply")
    except ValueError as error:  # an integer of thousands of digits
        return Fault(number, "", "is not JSON", str(error).partition(":")[0])


def _is_list(file: BinaryIO) -> bool:
    """Whether the first thing in the file is a bracket; then at its beginning again."""
    start = file.read(len(BOM))
    start = (start if start != BOM else b"") + file.read(_CHUNK)
    file.seek(0)
    return start.lstrip().startswith(b"[")


def _values(path: Path) -> Iterator[Line | Fault]:
    """The values of a file that is one JSON list."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reading = _Reading(file)
        try:
            reading.take("[")
            number = 0
            while not reading.ends_by("]"):
                if number:
                    reading.take(",")
                number += 1
                yield Line(number, reading.value())
            reading.nothing_more()
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path} is one JSON list, which breaks off in line {reading.line} "
                f"({_reason(error)}): mend it there."
            ) from None


class _Reading:
    """A text of which only what is being parsed is held."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._text = ""
        self.line = 1

    def take(self, sign: str) -> None:
        """Pass over white space and `sign`. Raises ValueError if something else is there."""
        if self._next() != sign:
            raise ValueError(f"{sign} is due, and {self._next() or 'the end'} is there")
        self._pass(1)

    def ends_by(self, sign: str) -> bool:
        """Pass over `sign` if it is next; whether it was."""
        found = self._next() == sign
        if found:
            self._pass(1)
        return found

    def value(self) -> Any:
        """The next value. Raises ValueError or RecursionError."""
        self._next()
        while True:
            try:
                value, end = json.JSONDecoder().raw_decode(self._text)
            except json.JSONDecodeError as error:
                if not self._more():
                    self._pass(error.pos)
                    raise
                continue
            # A number may go on in what is not read yet; an object or a text is whole.
            if end < len(self._text) or not self._more():
                self._pass(end)
                return value

    def nothing_more(self) -> None:
        if self._next():
            raise ValueError("something follows its end")

    def _next(self) -> str:
        """The next character that is no white space, "" at the end."""
        while True:
            bare = self._text.lstrip(" \t\r\n")
            self._pass(len(self._text) - len(bare))
            if bare or not self._more():
                return bare[:1]

    def _pass(self, count: int) -> None:
        self.line += self._text.count("\n", 0, count)
        self._text = self._text[count:]

    def _more(self) -> bool:
        """Read on, twice as much each time: whatever is parsed again was half as long."""
        if len(self._text) > MAX_LINE:
            raise ValueError(f"a value is longer than {MAX_LINE >> 20} MiB")
        read = self._file.read(max(_CHUNK, len(self._text)))
        self._text += read
        return bool(read)


def _reason(error: Exception) -> str:
    match error:
        case UnicodeDecodeError():
            return "it is not UTF-8"
        case json.JSONDecodeError():
            return error.msg
        case RecursionError():
            return "nested too deeply"
    return str(error).partition(":")[0]
