"""SHA-256 of large files, with progress, and while copying."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

# Large enough that Python's share of the loop vanishes, small enough for a processor's cache.
_CHUNK = 1024 * 1024

Progress = Callable[[int], None]


def sha256_of(path: Path, on_progress: Progress | None = None) -> str:
    """The hash (hex) of the file's bytes; `on_progress` gets the bytes read so far.
    Raises OSError."""
    with path.open("rb", buffering=0) as file:
        return _consume(file, None, on_progress)


def copy_and_hash(source: Path, target: Path, on_progress: Progress | None = None) -> str:
    """Copy a file; the hash of what was written. Raises OSError."""
    with source.open("rb", buffering=0) as file, target.open("wb", buffering=0) as out:
        return _consume(file, out, on_progress)


def _consume(file: BinaryIO, out: BinaryIO | None, on_progress: Progress | None) -> str:
    digest, done = hashlib.sha256(), 0
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    while count := file.readinto(buffer):  # type: ignore[attr-defined]
        digest.update(view[:count])
        if out is not None:
            written = 0
            while written < count:
                written += out.write(view[written:count])
        done += count
        if on_progress is not None:
            on_progress(done)
    return digest.hexdigest()
