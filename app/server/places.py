"""Who may ask the engine now, who waits, and who is sent away."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from openchat_local.app.server.errors import busy, refused

_MOST_SECONDS = 60
_REMEMBERED = 0.2  # the share that the last one has in the mean


class Places:
    """As many `running` at once as the engine decodes together, and `waiting` behind them in
    the order that they came in. Belongs to one event loop."""

    def __init__(self, running: int, waiting: int) -> None:
        self.running = running
        self.most = running + waiting
        self.taken = 0
        self._turns = asyncio.Semaphore(running)
        self._seconds = 1.0  # that one takes, on average

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return max(0, self.taken - self.running)

    @contextmanager
    def reserved(self, count: int) -> Iterator[None]:
        """Room for `count` replies. Raises ApiError: 429 where there is none now, 400 where
        there never is."""
        if count > self.most:
            raise refused(
                f"One request may ask for {self.most} replies at most, and this asks for {count}.",
                "n",
            )
        if self.taken + count > self.most:
            raise busy(self._until_room(count))
        self.taken += count
        try:
            yield
        finally:
            self.taken -= count

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """The turn of one that has room."""
        async with self._turns:
            began = time.monotonic()
            try:
                yield
            finally:
                took = time.monotonic() - began
                self._seconds += _REMEMBERED * (took - self._seconds)

    def _until_room(self, count: int) -> int:
        """Whole seconds until so many are likely to be through."""
        over = self.taken + count - self.most
        return max(1, min(_MOST_SECONDS, math.ceil(self._seconds * over / self.running)))
