"""Finished rows on disk: what was measured once is not measured again, whatever ended it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from openchat_local.finetune.data.lines import files_of
from openchat_local.models.errors import OpenChatError


class RowsUnwritten(OpenChatError):
    """What was measured could not be kept."""


class RowFile:
    """A JSONL file of finished rows that grows a row at a time.

    A process that died in the middle of a line leaves a part of it, which is cut off. Several
    processes may append to one file: a line is written whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def rows(self) -> list[dict[str, Any]]:
        """Those that are there, in the order that they were finished in."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return []
        found = []
        for line in data.split(b"\n"):
            try:
                row = json.loads(line)
            except ValueError:
                continue  # the last, torn; or "" after it
            if isinstance(row, dict):
                found.append(row)
        return found

    def append(self, row: Mapping[str, Any]) -> None:
        """Keep one more. Raises RowsUnwritten."""
        line = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        try:
            if self._file is None:
                self._file = self._open()
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise RowsUnwritten(
                f"{self.path} cannot be written ({error.strerror}): make room or make it writable; "
                "what was measured before is kept."
            ) from error

    def _open(self) -> IO[bytes]:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self.path.open("ab", buffering=0)
        if file.tell():
            with self.path.open("rb") as before:
                before.seek(-1, 2)
                if before.read(1) != b"\n":
                    file.write(b"\n")  # a torn line stays by itself
        return file

    def close(self) -> None:
        """Harmless when nothing was written."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> RowFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def cache_file(folder: Path, kind: str, key: Mapping[str, Any]) -> Path:
    """Where rows of this `kind` are that all of `key` decided, in the `folder` of evaluations."""
    return folder / "cache" / f"{kind}-{digest_of(key)[:24]}.jsonl"


def digest_of(value: Any) -> str:
    """SHA-256 (hex) of a JSON value; equal values have equal digests. Paths are their text."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes; of a folder of data, of those of its files' digests.
    Raises OSError, and DataError for a folder without data."""
    files = files_of(path)
    if len(files) > 1:
        return digest_of([file_digest(file) for file in files])
    with files[0].open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
