"""Keys have their effect one after the other, however fast they come.

Textual looks for keys with priority as soon as the app hears of them, while the keys before may
still be in the queue of the widget with the focus, or in those of what it lies on: in a burst (a
paste that the terminal does not mark, a program that types) Ctrl+N would come before the Enter
that was pressed before it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from textual import events
from textual.widgets import Input, TextArea

if TYPE_CHECKING:
    from textual.app import App
    from textual.widget import Widget

Deal = Callable[[], Awaitable[None]]

MOST_ROUNDS = 8
"""Rounds of messages that call forth messages: while a reply streams in, there is always one."""
LONGEST_SECONDS = 3.0
"""A widget that hangs keeps no key from its work for longer."""


class OneByOne:
    """Holds keys back until those before them have had their effect."""

    def __init__(self, app: App[Any]) -> None:
        self._app = app
        self._held: deque[tuple[Deal, bool]] = deque()
        self._under_way = False
        self._writing_into: Widget | None = None
        """The text that alone has got keys since all was quiet: in it, they stay in order."""
        self._wait: asyncio.TimerHandle | None = None
        """While keys are held back: what ends that in any case."""

    async def take(self, deal: Deal, *, writes: bool = False) -> None:
        """Await `deal()` in the app's task when all that was taken before has had its effect.
        Where it `writes` into a text, it need not wait for others that do."""
        self._held.append((deal, writes))
        if self._wait is None:
            await self._go_on()

    async def _go_on(self) -> None:
        while self._held:
            deal, writes = self._held[0]
            focused = self._app.focused
            into = focused if writes and isinstance(focused, (Input, TextArea)) else None
            if self._under_way and (into is None or into is not self._writing_into):
                self._wait_for_quiet()
                return
            self._held.popleft()
            self._under_way, self._writing_into = True, into
            await deal()

    def _wait_for_quiet(self) -> None:
        def too_long() -> None:
            self._app.call_later(self._quiet, wait)

        wait = self._wait = asyncio.get_running_loop().call_later(LONGEST_SECONDS, too_long)
        self._go_round(wait, 1)

    def _go_round(self, wait: asyncio.TimerHandle, number: int) -> None:
        """Go behind what waits in the queues, from the focus to the app, where messages go."""
        focused = self._app.focused or self._app.screen
        on_the_way = [focused, *(each for each in focused.ancestors if each is not self._app)]
        pumps = iter(on_the_way)

        def go_on() -> None:
            for pump in pumps:
                if pump.call_later(go_on):
                    return
            self._app.call_later(arrived)

        async def arrived() -> None:
            more = any(pump.message_queue_size for pump in on_the_way)
            if more and number < MOST_ROUNDS and wait is self._wait:
                self._go_round(wait, number + 1)
            else:
                await self._quiet(wait)

        go_on()

    async def _quiet(self, wait: asyncio.TimerHandle) -> None:
        wait.cancel()
        if wait is self._wait:
            self._wait, self._under_way = None, False
            await self._go_on()


def is_writing(event: events.Key | events.Paste) -> bool:
    """Whether an event does nothing to a text with the focus but put characters into it."""
    return isinstance(event, events.Paste) or (event.is_printable and bool(event.character))
