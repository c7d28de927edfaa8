"""What a file is: lines of JSON, one list of it, a table, columns; or something not read here."""

from __future__ import annotations

import codecs
import io
import os
import re
import shlex
from itertools import count
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, TextIO, cast

from openchat_local.finetune.data.containers.columns import is_columns
from openchat_local.finetune.data.containers.unpacking import PACKED_SUFFIXES, unpacked
from openchat_local.finetune.data.faults import DataError

HEAD = 4096  # bytes that tell what a file is

Form = Literal["lines", "list", "values", "table", "columns"]
"""JSON a line, one JSON list, JSON values in many lines each, CSV, or Parquet and Arrow."""


class Kind(NamedTuple):
    """What a file is. `encoding` is that of its text, `packed` what it is compressed with (""
    for nothing), `head` how it begins: in UTF-8 if it is text."""

    form: Form
    encoding: str
    packed: str
    head: bytes

    @property
    def unit(self) -> str:
        """What counts its values."""
        return {"lines": "line", "table": "line", "columns": "row"}.get(self.form, "value")


class _Kind(NamedTuple):
    """How files of a kind begin, what they are, and the command that writes what they hold to
    standard output, "" where none is at hand everywhere."""

    begins: bytes
    name: str
    command: str = ""


_KINDS = (
    _Kind(b"\x28\xb5\x2f\xfd", "compressed with zstd", "zstd -dc <"),
    _Kind(b"PK\x03\x04", "a ZIP archive or a spreadsheet"),
    _Kind(b"PAR1", "a Parquet file that was compressed once more"),
    _Kind(b"ARROW1", "an Arrow file that was compressed"),
    _Kind(b"SQLite format 3\x00", "an SQLite database"),
    _Kind(b"%PDF", "a PDF"),
    _Kind(b"GGUF", "a model"),
)
# UTF-32 first: its mark begins with that of UTF-16. Without a mark, an ASCII character tells.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"{\x00", "utf-16-le"),
    (b"[\x00", "utf-16-le"),
    (b"\x00{", "utf-16-be"),
    (b"\x00[", "utf-16-be"),
)
_PRETTY = re.compile(r"\s*\{[ \t\r]*\n\s*\"")
_HEADER = re.compile(r"\s*\"?\w[\w .-]*\"?([,;\t|]\"?\w[\w .-]*\"?)+\s*\n")
_COLUMNS = re.compile(
    r"\b(instruction|input|output|prompt|completion|question|answer|response|text|messages?)\b",
    re.IGNORECASE,
)
_TABLES = (".csv", ".tsv")


def kind_of(path: Path) -> Kind:
    """What the file at `path` is. Raises OSError, and DataError for one that is not read here."""
    file, packed = unpacked(path)
    with file:
        head = file.peek(HEAD)[:HEAD]
    if not packed and is_columns(head, path):
        return Kind("columns", "", packed, head)
    encoding = next((name for begins, name in _MARKS if head.startswith(begins)), "utf-8-sig")
    if encoding == "utf-8-sig":
        _refuse_foreign(path, head)
        text = head.removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace")
    else:
        text = codecs.getincrementaldecoder(encoding)("replace").decode(head)
        text = text.removeprefix("\ufeff")
    return Kind(_form(text, path), encoding, packed, text.encode("utf-8", "replace"))


def is_table_by_name(path: Path) -> bool:
    """Whether a file's name says that it is CSV."""
    name = path.name.lower()
    for suffix in PACKED_SUFFIXES:
        name = name.removesuffix(suffix)
    return name.endswith(_TABLES)


def _form(text: str, path: Path) -> Form:
    if text.lstrip().startswith("["):
        return "list"
    if _PRETTY.match(text):
        return "values"
    header = _HEADER.match(text)
    if is_table_by_name(path) or (header is not None and _COLUMNS.search(header[0])):
        return "table"
    return "lines"


def open_lines(path: Path) -> BinaryIO:
    """`path` opened to read UTF-8 lines from, unpacked if it is compressed, recoded if it is
    UTF-16 or UTF-32.

    Raises OSError, or DataError if the file is of a kind that is not read here.
    """
    kind = kind_of(path)
    file, _ = unpacked(path)
    if kind.encoding in ("", "utf-8-sig"):
        return file
    return cast("BinaryIO", _Recoded(file, kind.encoding))


def open_text(path: Path, kind: Kind) -> TextIO:
    """The text of `path`, which is of this `kind`, its lines as they end; bytes that are none
    come as half characters. Raises OSError."""
    file, _ = unpacked(path)
    errors = "surrogateescape" if kind.encoding == "utf-8-sig" else "surrogatepass"
    return io.TextIOWrapper(file, kind.encoding, errors, newline="")


def _refuse_foreign(path: Path, head: bytes) -> None:
    """Raise DataError if a file that begins with `head` is of a kind known not to be data."""
    if head.startswith(b"version https://git-lfs"):
        raise DataError(
            f"{path} only stands for a file that Git LFS has elsewhere: fetch it with "
            "`git lfs pull`."
        )
    for kind in _KINDS:
        if head.startswith(kind.begins):
            raise _refusal(path, kind.name, kind.command)


def _refusal(path: Path, name: str, command: str) -> DataError:
    due = f"{path} is {name}, but JSON, CSV or Parquet is needed"
    if not command or os.name == "nt":
        return DataError(f"{due}: write what it holds as JSONL or CSV, and name that file.")
    out = _free_name(path)
    return DataError(
        f"{due}; this writes {out.name}, which can be named instead:\n"
        f"  {command} {shlex.quote(str(path))} > {shlex.quote(str(out))}"
    )


def _free_name(path: Path) -> Path:
    """A JSONL file beside `path` that is not there yet."""
    stem = path.name
    for _ in range(2):  # data.jsonl.gz
        stem = re.sub(r"\.(gz|bz2|xz|zst|jsonl?|ndjson|csv|tsv|txt)$", "", stem, flags=re.I) or stem
    names = (f"{stem}{f'-{number}' if number else ''}.jsonl" for number in count())
    return next(free for name in names if not (free := path.with_name(name)).exists())


class _Recoded:
    """A text file in another encoding as lines of UTF-8; invalid bytes stay invalid."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self._text = io.TextIOWrapper(file, encoding, "surrogatepass", newline="\n")

    def readline(self, limit: int = -1) -> bytes:
        """The next line, or about its first `limit` bytes."""
        return self._text.readline(limit).encode("utf-8", "surrogatepass")

    def __enter__(self) -> _Recoded:
        return self

    def __exit__(self, *_: object) -> None:
        self._text.close()
