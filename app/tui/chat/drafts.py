"""Prompts that were not sent: on disk half a second after the last key."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.timer import Timer

    from openchat_local.app.tui.chat.context import WindowContext

DRAFT_SECONDS = 0.5


class Drafts:
    """Saves what stands in the prompt, for the active chat."""

    def __init__(self, window: WindowContext) -> None:
        self._window = window
        self._timer: Timer | None = None
        self.is_command: Callable[[str], bool] = lambda _: False
        """What is about the window is no draft, and no word that a chat begins with."""

    def save_soon(self) -> None:
        """Save when the user has stopped typing; an earlier prompt that is edited is no draft."""
        self._cancel()
        pane = self._window.pane
        if pane.editing is None:
            self._timer = pane.set_timer(DRAFT_SECONDS, self._begin)

    def _begin(self) -> None:
        self._window.in_order(self._save_now)

    async def _save_now(self) -> None:
        async with self._window.taking_turns():
            before = self._window.session.active.id
            await self.save(self._window.unsent)
            if self._window.session.active.id != before:  # it began a chat
                await self._window.refresh_list()

    async def save(self, text: str) -> None:
        """Put a prompt that was not sent on disk; for whoever has the turn.

        Raises OpenChatError.
        """
        from openchat_local.app.chats import ChatNotFound

        session, text = self._window.session, self.as_draft(text)
        try:
            await session.save_draft(session.active, text)
        except ChatNotFound:
            if not await self._window.leave_if_gone():
                raise
            await session.save_draft(session.active, text)

    def as_draft(self, text: str) -> str:
        """What of the active chat's unsent words is kept, those that wait for a reply before."""
        return self._window.queue.before("" if self.is_command(text) else text)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
