"""Files and folders that are either whole or not there, whatever kills the program."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, *, new: bool = False) -> Iterator[Path]:
    """A path beside `path` to write a file to: it takes `path`'s place, synced, at the end of
    the block, and is removed when the block raises.

    With `new`, raises FileExistsError where there is a `path` by then: what somebody put there
    in the minutes that the block took stays.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        if new:
            rename_new(part, path)
        else:
            os.replace(part, path)
        sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def rename_new(source: Path, target: Path) -> None:
    """Rename a file unless there is a `target`. Raises FileExistsError, or another OSError."""
    if os.name == "nt":
        source.rename(target)  # Windows replaces nothing
        return
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        source.rename(target)
    else:
        source.unlink()


@contextmanager
def replacing_folder(path: Path, *, new: bool = False) -> Iterator[Path]:
    """The same for a folder, which is there, empty, when the block begins.

    Whoever calls it without `new` knows that all of an older `path` is theirs: it goes.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        for file in part.rglob("*"):
            if file.is_file() and not file.is_symlink():  # another program's is not ours to open
                with file.open("rb+") as written:
                    os.fsync(written.fileno())
        sync_folder(part)
        if not new and path.exists():  # a folder cannot replace one that has something in it
            path.rename(old)
        part.rename(path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if not path.exists() and old.exists():
            old.rename(path)
        shutil.rmtree(old, ignore_errors=True)


def others_in(folder: Path, own: Collection[str]) -> list[str]:
    """What is in `folder`, if there is one, beside the names in `own`, in alphabetical order."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.name not in own)


def sync_folder(folder: Path) -> None:
    """Make renames within `folder` survive a power cut. Windows does so by itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
