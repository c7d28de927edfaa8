"""A JSONL file, line by line, in bounded memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from openchat_local.finetune.data.faults import DataError, Fault
from openchat_local.finetune.data.kinds import open_lines

MAX_LINE = 16 * 2**20  # bytes; some forty times what any model here can attend to


class Line(NamedTuple):
    """Line `number` (from 1) of a file as the JSON `value` that it is."""

    number: int
    value: Any


def read_lines(path: Path) -> Iterator[Line | Fault]:
    """The JSON value, or the fault, of every line of `path` that is not blank.

    A line over `MAX_LINE` bytes is a fault and is never held in memory. Raises DataError if
    the file cannot be read, or is one JSON list.
    """
    try:
        with open_lines(path) as file:
            for number, data in enumerate(_bounded(file), 1):
                if data is None:
                    yield Fault(number, "", f"is longer than {MAX_LINE >> 20} MiB")
                elif number == 1:
                    first = data.removeprefix(b"\xef\xbb\xbf")
                    _refuse_list(path, first)
                    yield from _parsed(1, first)
                else:
                    yield from _parsed(number, data)
    except OSError as error:
        reason = "is a folder" if path.is_dir() else error.strerror or str(error)
        raise DataError(f"{path} cannot be read ({reason}); name a JSONL file.") from error


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


def _refuse_list(path: Path, first: bytes) -> None:
    if first.lstrip().startswith(b"["):
        raise DataError(
            f"{path} is one JSON list, and one conversation a line is due; "
            f"convert it, for example with: jq -c '.[]' {path.name} > {path.stem}.jsonl"
        )
