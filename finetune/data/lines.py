"""Data value by value, whatever they came in, in bounded memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from openchat_local.finetune.data.containers.columns import column_rows, unread_columns
from openchat_local.finetune.data.containers.folder import source_of
from openchat_local.finetune.data.containers.json_list import BOM, list_values, values_in_a_row
from openchat_local.finetune.data.containers.table import delimiter_of, table_rows
from openchat_local.finetune.data.faults import DataError, Fault, Places
from openchat_local.finetune.data.kinds import Kind, kind_of, open_lines, open_text
from openchat_local.finetune.data.line import MAX_LINE, MOST_IN_A_FILE, Line

_NO_COLUMNS = frozenset[str]()  # all of them


def read_lines(path: Path, columns: frozenset[str] = _NO_COLUMNS) -> Iterator[Line | Fault]:
    """The JSON value, or the fault, of every line of `path` that is not blank; of a file that
    is one JSON list, every value in it; of a table, every row as an object. Of a folder, those of
    all its files, one after the other.

    A line or value over `MAX_LINE` bytes is a fault and is never held in memory. Of Parquet and
    Arrow files only the `columns` are read, if these are there. Raises DataError if the file
    cannot be read, is a pipe, or breaks off.
    """
    refuse_unreadable(path)
    source = source_of(path)
    try:
        for place, file in enumerate(source.files):
            before = place * MOST_IN_A_FILE
            for found in _read_file(file, columns):
                yield found if not before else found.behind(before)
    except UnicodeDecodeError as error:  # of UTF-16: half a character at the end is of no line
        raise DataError(
            f"{path} is not whole UTF-16 ({error.reason}): fetch it once more, or save it as UTF-8."
        ) from None
    except OSError as error:
        raise _unreadable(path, error) from error


def _read_file(path: Path, columns: frozenset[str]) -> Iterator[Line | Fault]:
    kind = kind_of(path)
    if kind.form == "columns":
        yield from column_rows(path, kind.head, columns)
    elif kind.form == "lines":
        with open_lines(path) as file:
            for number, data in enumerate(_bounded(file), 1):
                if data is None:
                    yield Fault(number, "", f"is longer than {MAX_LINE >> 20} MiB")
                else:
                    yield from _parsed(number, data.removeprefix(BOM) if number == 1 else data)
    else:
        with open_text(path, kind) as text:
            if kind.form == "table":
                yield from table_rows(text, path)
                return
            read = list_values if kind.form == "list" else values_in_a_row
            values = read(text, path, MAX_LINE)
            yield from (Line(number, value) for number, value in enumerate(values, 1))


class Container(NamedTuple):
    """What `path` is, for a person: `name` such as "CSV", `places` put line numbers into words,
    `unread` are columns that are not read, `others` the other splits of a
    folder; `title` is what to call it, "" for the name of the file."""

    name: str
    places: Places
    unread: tuple[str, ...] = ()
    others: tuple[Path, ...] = ()
    title: str = ""


def container_of(path: Path, columns: frozenset[str] = _NO_COLUMNS) -> Container:
    """What `read_lines` reads. What it could not read is called a file of lines here."""
    try:
        source = source_of(path)
        kinds = [kind_of(file) for file in source.files if file.is_file()]
        unread = (
            unread_columns(source.files[0], kinds[0].head, columns)
            if kinds and kinds[0].form == "columns"
            else ()
        )
    except (OSError, DataError):
        return Container("", Places())
    if not kinds:
        return Container("", Places())
    if source.folder is None:
        name = "" if kinds[0].form == "lines" and not kinds[0].packed else _name(kinds[0])
        return Container(name, Places(kinds[0].unit), unread)
    files = tuple(source.name_of(place) for place in range(len(source.files)))
    units = tuple(kind.unit for kind in kinds)
    about = f"{source.about}: " if source.about else ""
    plural = "s" * (len(files) != 1)
    names = ", ".join(dict.fromkeys(map(_name, kinds)))
    name = f"{about}{len(files):,} file{plural}, {names}"
    title = path.relative_to(source.folder.parent).as_posix()
    others = source.others if path == source.folder else ()
    return Container(name, Places(units[0], files, units), unread, others, title)


def _name(kind: Kind) -> str:
    """What a file is called."""
    match kind.form:
        case "lines":
            name = "JSON lines"
        case "table":
            header = kind.head.decode("utf-8", "replace").lstrip().partition("\n")[0]
            parted = {",": "", "\t": " parted by tabs"}
            delimiter = delimiter_of(header)
            name = f"CSV{parted.get(delimiter, f' parted by {delimiter}')}"
        case "columns":
            name = "Parquet" if kind.head.startswith(b"PAR1") else "Arrow"
        case _:
            name = "one JSON list" if kind.form == "list" else "JSON in many lines"
    return f"{name} in {kind.packed}" if kind.packed else name


def places_of(path: Path) -> Places:
    """Puts the numbers of its lines into words."""
    return container_of(path).places


def files_of(path: Path) -> tuple[Path, ...]:
    """The files that data are read from. Raises DataError where a folder has none."""
    return source_of(path).files


def refuse_unreadable(path: Path) -> None:
    """Raise DataError early where `path` cannot be read, and for a pipe: data are read more
    than once, and by another process."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise DataError(
                f"{path} is a pipe or a device, but data are read more than once: write them "
                "into a file first, and name that."
            )
        for file in source_of(path).files:
            file.open("rb").close()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> DataError:
    where = error.filename or path
    return DataError(
        f"{where} cannot be read ({error.strerror or error}); name a file or a folder of data."
    )


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
