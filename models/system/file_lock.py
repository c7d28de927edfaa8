"""A lock on a file, which the system drops with the process that holds it.

However that process ends: so a lock that can be taken belongs to nobody alive. (A screen
of standard library code rather than the `filelock` package, whose import takes 20 ms of
every start.)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int, shared: bool) -> None:
        if shared:
            raise NotImplementedError("Windows locks no file for several readers")
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int, shared: bool) -> None:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)


# `os.open` makes descriptors that no child inherits: a child that outlives the program by
# a moment does not keep its lock.
def try_lock(path: Path, *, shared: bool = False) -> int | None:
    """The descriptor that holds the lock on `path`, made if need be, until it is closed; None
    if somebody else does. Any number of processes may hold a `shared` one (not on Windows).
    Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(descriptor, shared)
    except (BlockingIOError, PermissionError):  # PermissionError: Windows
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def looked_at(path: Path) -> Iterator[bool]:
    """Whether somebody holds the lock on the file at `path`; if not, nobody gets it within the
    block. Raises OSError, such as FileNotFoundError: no file is made.

    Several may look at once without being in each other's way (on Windows one may take
    another for a holder); whoever wants the lock meanwhile has to try again.
    """
    descriptor = os.open(path, os.O_RDWR)
    try:
        try:
            _lock(descriptor, sys.platform != "win32")
            held = False
        except (BlockingIOError, PermissionError):
            held = True
        yield held
    finally:
        os.close(descriptor)
