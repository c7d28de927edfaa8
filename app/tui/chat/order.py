"""Whose turn it is: what the user tells the window is done in the order in which it was heard."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Any


class Order:
    """Places, each of which has its turn when all that were taken before are given up.

    A place is taken at the moment when a key or a message is heard, not when the task begins
    that does what it asks: tasks begin in an order of their own.
    """

    def __init__(self) -> None:
        self._places: deque[Place] = deque()

    @property
    def busy(self) -> bool:
        """Whether anybody has a place."""
        return bool(self._places)

    def take(self) -> Place:
        """The place behind all others."""
        place = Place(self)
        self._places.append(place)
        self.look()
        return place

    @property
    def mine(self) -> Place | None:
        """The place of the task that runs, if it is its turn."""
        first = self._places[0] if self._places else None
        return first if first is not None and first.task is asyncio.current_task() else None

    def give_up(self, place: Place) -> None:
        """Take a place out; one that is out already may be given up again."""
        if place in self._places:
            self._places.remove(place)
        self.look()

    def look(self) -> None:
        """Tell the first that it is its turn."""
        if self._places:
            self._places[0].come.set()


class Place:
    """A place in an order: `async with` waits for its turn, and gives it up at the end."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self.come = asyncio.Event()
        self.task: asyncio.Task[Any] | None = None
        """The one that does the work, once it waits for its turn."""

    async def __aenter__(self) -> None:
        self.task = asyncio.current_task()
        try:
            await self.come.wait()
        except BaseException:
            self.give_up()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.give_up()

    def give_up(self) -> None:
        """Let the next go on, before the work is done or after."""
        self._order.give_up(self)
