"""Who answers and who trains on the same machine: training stands still while somebody replies.

Whoever generates a reply holds a lock on a file of its own in <home>/replying/, which the
system drops with the process however that ends: training never waits for the dead.
"""

from __future__ import annotations

import math
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from openchat_local.models.system.file_lock import looked_at, try_lock

FOLDER = "replying"
# Between two replies that follow each other, training would only begin to run.
TAIL_SECONDS = 0.3


@contextmanager
def replying(home: Path) -> Iterator[None]:
    """A reply is generated within the block: training on this machine gives way to it.

    A home that cannot be written keeps no reply from coming.
    """
    held = None
    with suppress(OSError):
        held = _hold(home / FOLDER)
    try:
        yield
    finally:
        if held is not None:
            path, descriptor = held
            with suppress(OSError):  # Windows removes no open file: the next who looks does
                path.unlink()
            os.close(descriptor)


def somebody_replies(home: Path) -> bool:
    """Whether any process generates a reply now. Files that the dead left behind are removed."""
    try:
        paths = [Path(entry.path) for entry in os.scandir(home / FOLDER)]
    except OSError:
        return False  # nobody has ever replied here
    return any(_is_held(path) for path in paths)


class GivesWay:
    """Called, says whether training should stand still: while somebody replies, and for
    TAIL_SECONDS after the last reply."""

    def __init__(self, home: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._home = home
        self._clock = clock
        self._until = -math.inf

    def __call__(self) -> bool:
        now = self._clock()
        if somebody_replies(self._home):
            self._until = now + TAIL_SECONDS
            return True
        return now < self._until


def giving_way_in(home: Path) -> Callable[[], Literal["giving way"] | None]:
    """What tells a `Training` when to give way to the replies of `home`."""
    gives_way = GivesWay(home)
    return lambda: "giving way" if gives_way() else None


def _is_held(path: Path) -> bool:
    """Whether a living process holds the lock of that file, which is removed if none does."""
    try:
        with looked_at(path) as held:
            if held:
                return True
            with suppress(PermissionError):  # Windows removes no open file
                path.unlink()  # while nobody can take it for theirs
    except OSError:  # it is gone by now, or cannot be looked at: then it is nobody's to remove
        return False
    with suppress(OSError):
        path.unlink(missing_ok=True)
    return False


def _hold(folder: Path) -> tuple[Path, int]:
    """A new file in `folder`, and the descriptor that holds its lock."""
    folder.mkdir(mode=0o700, exist_ok=True)
    while True:
        path = folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        descriptor = try_lock(path)
        if descriptor is None:  # somebody looks at it in this very moment
            continue
        # Whoever looked between the making of the file and its lock has taken it for a dead one.
        with suppress(OSError):
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return path, descriptor
        os.close(descriptor)
