"""Work that is done a batch at a time, between the decode steps of replies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from openchat_local.models.engine.llamacpp import AbortFlag

# Rows of the first batch where a reply waits for its end, until their cost is known.
_FIRST_ROWS = 4


class Cancelled:
    """Whether a job was given up, which another thread may do at any moment."""

    def __init__(self) -> None:
        self._flag: AbortFlag | None = None
        self._set = False

    def watch(self, flag: AbortFlag) -> None:
        """Stop a batch in progress as well, by this flag."""
        self._flag = flag
        if self._set:
            flag.set()

    def set(self) -> None:
        self._set = True
        if self._flag is not None:
            self._flag.set()

    def is_set(self) -> bool:
        return self._set


class SideJob(Protocol):
    """Something to be stepped until it is `done`, and then closed."""

    cancelled: Cancelled
    done: bool

    def step(self, seconds: float | None) -> None:
        """Do one batch, which takes about so long; a full one for None, where nobody waits."""

    def close(self) -> None:
        """Give up what is not done, and the memory."""


class RowBudget:
    """How many rows a batch may have to take so many seconds, by what the last one took."""

    def __init__(self) -> None:
        self.most = 1
        self._row_seconds: float | None = None

    def allow(self, seconds: float | None, most: int) -> None:
        """The next batch may take so long, and have at most so many rows."""
        if seconds is None:
            self.most = most
        elif self._row_seconds is None:
            self.most = min(_FIRST_ROWS, most)
        else:
            self.most = max(1, min(most, int(seconds / self._row_seconds)))

    @contextmanager
    def timed(self, rows: int) -> Iterator[None]:
        """Learn from a batch of so many rows, which is evaluated inside."""
        started = time.perf_counter()
        yield
        self._row_seconds = (time.perf_counter() - started) / rows
