"""How full the context is: the open chat with the unsent prompt, in the model's own tokens."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from textual.timer import Timer

    from openchat_local.app.tui.desk import Desk
    from openchat_local.app.tui.widgets.chat_pane import ChatPane

COUNT_SECONDS = 0.3


class Counter:
    """Keeps the meter of the status bar true."""

    def __init__(self, desk: Desk, pane: ChatPane) -> None:
        self._desk = desk
        self._pane = pane
        self._timer: Timer | None = None

    def recount_soon(self, seconds: float = COUNT_SECONDS) -> None:
        """Count after `seconds`, unless this is called again before."""
        if self._timer is not None:
            self._timer.stop()
        self._timer = self._pane.set_timer(max(0.01, seconds), self._begin)

    def _begin(self) -> None:
        self._pane.run_worker(self._recount(), exclusive=True, group="count")

    async def _recount(self) -> None:
        engine, shown = self._pane.room.engine, self._desk.shown
        if engine is None or self._pane.room.loaded is None:
            return
        tokens = 0
        try:
            conversation = await self._desk.conversation(self._pane.prompt.text)
            if conversation.messages:
                tokens = await asyncio.to_thread(engine.count_tokens, conversation)
        except OpenChatError:
            return  # the meter keeps its figure; sending will tell what is wrong
        if shown is self._desk.shown:
            self._pane.set_status(tokens=tokens)
