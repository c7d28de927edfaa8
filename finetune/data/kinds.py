"""What a file is that is not JSONL, and how to make JSONL of it; UTF-16 is read directly."""

from __future__ import annotations

import codecs
import io
import json
import os
import re
import shlex
from itertools import count
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from openchat_local.finetune.data.faults import DataError

HEAD = 4096  # bytes that tell what a file is


class _Kind(NamedTuple):
    """How files of a kind begin, what they are, and the command that writes what they hold to
    standard output, "" where none is at hand everywhere."""

    begins: bytes
    name: str
    command: str = ""


_KINDS = (
    _Kind(b"\x1f\x8b", "compressed with gzip", "gzip -dc <"),
    _Kind(b"BZh", "compressed with bzip2", "bzip2 -dc <"),
    _Kind(b"\xfd7zXZ\x00", "compressed with xz", "xz -dc <"),
    _Kind(b"\x28\xb5\x2f\xfd", "compressed with zstd", "zstd -dc <"),
    _Kind(b"PK\x03\x04", "a ZIP archive or a spreadsheet"),
    _Kind(b"PAR1", "a Parquet file"),
    _Kind(b"ARROW1", "an Arrow file"),
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
_PRETTY = re.compile(rb"\s*\{[ \t\r]*\n\s*\"")
_HEADER = re.compile(rb"\s*\"?\w[\w .-]*\"?([,;\t]\"?\w[\w .-]*\"?)+\s*\n")
_COLUMNS = re.compile(
    rb"\b(instruction|input|output|prompt|completion|question|answer|response|text|messages?)\b",
    re.IGNORECASE,
)
_FROM_CSV = (
    'import csv, json; file = open(0, newline="", encoding="utf-8-sig"); '
    "[print(json.dumps(row)) for row in csv.DictReader(file, delimiter={})]"
)


def open_lines(path: Path) -> BinaryIO:
    """`path` opened to read UTF-8 lines from, recoded if it is UTF-16 or UTF-32.

    Raises OSError, or DataError if the file is of a kind that is not read here.
    """
    file = path.open("rb")
    try:
        head = file.peek(HEAD)[:HEAD]
        for begins, encoding in _MARKS:
            if head.startswith(begins):
                return cast("BinaryIO", _Recoded(file, encoding))
        refuse_foreign(path, head)
    except BaseException:
        file.close()
        raise
    return file


def refuse_foreign(path: Path, head: bytes) -> None:
    """Raise DataError if a file that begins with `head` is of a kind known not to be JSONL."""
    for kind in _KINDS:
        if head.startswith(kind.begins):
            raise _refusal(path, kind.name, kind.command)
    text = head.removeprefix(codecs.BOM_UTF8)
    if _PRETTY.match(text):
        raise _refusal(path, "JSON in many lines", "jq -c . <")
    header = _HEADER.match(text)
    if header and (path.suffix.lower() in (".csv", ".tsv") or _COLUMNS.search(header[0])):
        delimiter = header[1][:1].decode()
        raise _refusal(
            path,
            "a table (CSV)",
            f"python3 -c {shlex.quote(_FROM_CSV.format(json.dumps(delimiter)))} <",
            " (the columns prompt and completion, or instruction and output, are a conversation)",
        )


def _refusal(path: Path, name: str, command: str, more: str = "") -> DataError:
    due = f"{path} is {name}, but one JSON object a line is needed{more}"
    if not command or os.name == "nt":
        return DataError(f"{due}: write what it holds as JSONL, and name that file.")
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
