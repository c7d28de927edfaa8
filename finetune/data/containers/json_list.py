"""A file that is one JSON list, value by value, in bounded memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from openchat_local.finetune.data.faults import DataError

BOM = b"\xef\xbb\xbf"
_CHUNK = 16 * 2**10


def list_values(file: TextIO, path: Path, most: int) -> Iterator[Any]:
    """The values of the list in `file`, of at most `most` characters each.

    Raises DataError where it breaks off, with the line; OSError.
    """
    reading = _Reading(file, most)
    try:
        reading.take("[")
        first = True
        while not reading.ends_by("]"):
            if not first:
                reading.take(",")
            first = False
            yield reading.value()
        reading.nothing_more()
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is one JSON list, which breaks off in line {reading.line} "
            f"({_reason(error)}): mend it there."
        ) from None


def values_in_a_row(file: TextIO, path: Path, most: int) -> Iterator[Any]:
    """The values in `file`, each in as many lines as it likes, nothing between them.

    Raises DataError where one breaks off, with the line; OSError.
    """
    reading = _Reading(file, most)
    try:
        while not reading.ends():
            yield reading.value()
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is JSON in many lines, which breaks off in line {reading.line} "
            f"({_reason(error)}): mend it there."
        ) from None


class _Reading:
    """A text of which only what is being parsed is held."""

    def __init__(self, file: TextIO, most: int) -> None:
        self._file = file
        self._most = most
        self._text = ""
        self.line = 1

    def take(self, sign: str) -> None:
        """Pass over white space and `sign`. Raises ValueError if something else is there."""
        if self._next() != sign:
            raise ValueError(f"{sign} is expected, but {self._next() or 'the end'} is there")
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

    def ends(self) -> bool:
        """Whether there is nothing more."""
        return not self._next()

    def nothing_more(self) -> None:
        if not self.ends():
            raise ValueError("something follows its end")

    def _next(self) -> str:
        """The next character that is not white space, "" at the end."""
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
        if len(self._text) > self._most:
            raise ValueError(f"a value is longer than {self._most >> 20} MiB")
        read = self._file.read(max(_CHUNK, len(self._text)))
        read.encode()  # where bytes are no text, they came in as half characters
        self._text += read
        return bool(read)


def _reason(error: Exception) -> str:
    match error:
        case UnicodeError():
            return "it is not UTF-8"
        case json.JSONDecodeError():
            return error.msg
        case RecursionError():
            return "nested too deeply"
    return str(error).partition(":")[0]
