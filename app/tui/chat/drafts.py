"""Prompts that were not sent: on disk half a second after the last key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openchat_local.app.tui.chat.work import begin

if TYPE_CHECKING:
    from textual.timer import Timer

    from openchat_local.app.tui.chat.context import WindowContext

DRAFT_SECONDS = 0.5


class Drafts:
    """Saves what stands in the prompt, for the chat that is open."""

    def __init__(self, stage: WindowContext) -> None:
        self._stage = stage
        self._timer: Timer | None = None

    def save_soon(self) -> None:
        """Save when the user has stopped typing; an earlier prompt that is edited is no draft."""
        self._cancel()
        if self._stage.pane.editing is not None:
            return
        self._timer = self._stage.pane.set_timer(DRAFT_SECONDS, self._begin)

    def _begin(self) -> None:
        begin(self._stage.pane, self._save_now)

    async def _save_now(self) -> None:
        async with self._stage.taking_turns():
            await self.save(self._stage.pane.prompt.text)

    async def save(self, text: str) -> None:
        """Put a prompt that was not sent on disk; for whoever has the turn.

        Raises OpenChatError.
        """
        from openchat_local.app.chats import ChatNotFound

        self._cancel()
        desk, text = self._stage.desk, self._stage.queue.before(text)
        try:
            await desk.save_draft(desk.shown, text)
        except ChatNotFound:
            if not await self._stage.leave_if_gone():
                raise
            await desk.save_draft(desk.shown, text)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
