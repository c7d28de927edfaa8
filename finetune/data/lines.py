"""A JSONL file line by line, or the values of a file that is one JSON list, in bounded memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from openchat_local.finetune.data.faults import DataError, Fault
from openchat_local.finetune.data.json_list import BOM, is_list, list_values
from openchat_local.finetune.data.kinds import open_lines

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
            if is_list(file):
                values = list_values(path, MAX_LINE)
                yield from (Line(number, value) for number, value in enumerate(values, 1))
                return
        with open_lines(path) as file:
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
            return "value" if is_list(file) else "line"
    return "line"


def refuse_unreadable(path: Path) -> None:
    """Raise DataError early where `path` cannot be read, and for a pipe: data are read more
    than once, and by another process."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise DataError(
                f"{path} is a pipe or a device, but data are read more than once: write them "
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
