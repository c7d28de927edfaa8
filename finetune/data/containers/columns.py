"""Tables in columns: Parquet files, and the Arrow files of Hugging Face's `datasets`.

pyarrow reads them, which is imported here alone, and only where there is such a file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from openchat_local.finetune.data.faults import DataError
from openchat_local.finetune.data.line import Line
from openchat_local.models.system.installing import install_command

PARQUET, ARROW = b"PAR1", b"ARROW1"
_ARROW_STREAM = b"\xff\xff\xff\xff"
_ROWS = 64  # that are held at once; one may be long
_BUFFER = 2**20  # bytes of a column that are read at once
# Of one row group, unpacked: what is beyond this is no text that was meant to be read here.
_MOST_GROUP = 8 * 2**30


def is_columns(head: bytes, path: Path) -> bool:
    """Whether a file that begins with `head` is one of those that are read here."""
    stream = head.startswith(_ARROW_STREAM) and path.suffix.lower() == ".arrow"
    return head.startswith((PARQUET, ARROW)) or stream


def column_rows(path: Path, head: bytes, wanted: frozenset[str]) -> Iterator[Line]:
    """The rows of a Parquet or Arrow file as objects, numbered from 1, without what is null.

    Only the columns in `wanted` are read, or all if none of them is there. Raises DataError where
    the file is broken, or pyarrow is not installed; OSError.
    """
    arrow = _pyarrow(path)
    number = 0
    try:
        with ExitStack() as stack:
            for batch in _batches(path, head, wanted, arrow, stack):
                for row in batch.to_pylist():
                    number += 1
                    yield Line(number, _without_nulls(row))
    except (arrow.ArrowException, OSError, UnicodeDecodeError, EOFError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's, and not pyarrow's word for what it cannot unpack
        where = f" behind row {number:,}" if number else ""
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DataError(
            f"{path} is broken{where} ({reason}): fetch it once more, or write it anew."
        ) from None


def unread_columns(path: Path, head: bytes, wanted: frozenset[str]) -> tuple[str, ...]:
    """The columns of a Parquet or Arrow file that `column_rows` leaves out; none where the file
    cannot be read."""
    try:
        arrow = _pyarrow(path)
    except DataError:
        return ()
    try:
        with ExitStack() as stack:
            names = _names(path, head, arrow, stack)
    except (arrow.ArrowException, OSError, EOFError, UnicodeDecodeError):
        return ()
    read = _wanted(names, wanted)
    return tuple(name for name in names if name not in read)


def _names(path: Path, head: bytes, arrow: Any, stack: ExitStack) -> list[str]:
    if head.startswith(PARQUET):
        import pyarrow.parquet

        return [*pyarrow.parquet.read_schema(path).names]
    import pyarrow.ipc

    source = stack.enter_context(arrow.memory_map(str(path)))
    read = pyarrow.ipc.open_file if head.startswith(ARROW) else pyarrow.ipc.open_stream
    return [*stack.enter_context(read(source)).schema.names]


def _batches(
    path: Path, head: bytes, wanted: frozenset[str], arrow: Any, stack: ExitStack
) -> Iterator[Any]:
    """Record batches of at most `_ROWS` rows."""
    if head.startswith(PARQUET):
        import pyarrow.parquet

        file = stack.enter_context(
            pyarrow.parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False)
        )
        groups = (file.metadata.row_group(i) for i in range(file.metadata.num_row_groups))
        if any(group.total_byte_size > _MOST_GROUP for group in groups):
            raise DataError(f"{path} has a row group of more than 8 GiB: write it in smaller ones.")
        columns = _wanted(file.schema_arrow.names, wanted)
        yield from file.iter_batches(batch_size=_ROWS, columns=columns, use_threads=False)
        return
    import pyarrow.ipc

    source = stack.enter_context(arrow.memory_map(str(path)))
    if head.startswith(ARROW):
        reader = stack.enter_context(pyarrow.ipc.open_file(source))
        batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
    else:
        reader = stack.enter_context(pyarrow.ipc.open_stream(source))
        batches = iter(reader)
    columns = _wanted(reader.schema.names, wanted)
    for batch in batches:
        batch.validate(full=True)  # what is damaged would end the process further on
        narrow = batch.select(columns)
        yield from (narrow.slice(at, _ROWS) for at in range(0, len(narrow), _ROWS))


def _wanted(names: list[str], wanted: frozenset[str]) -> list[str]:
    return [name for name in names if name in wanted] or names


def _without_nulls(value: Any) -> Any:
    """`value` as JSON: what is null is not there, and what JSON has no form for is its text."""
    if isinstance(value, dict):
        return {str(name): _without_nulls(one) for name, one in value.items() if one is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(one) for one in value if one is not None]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    return str(value)


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow as pa
    except ImportError:
        raise DataError(
            f"Reading {path} needs the package pyarrow: {install_command('pyarrow')}."
        ) from None
    return pa
