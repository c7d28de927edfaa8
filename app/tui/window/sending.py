"""A prompt on its way to the disk and to the engine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from openchat_local.models.errors import ContextOverflow, OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.tui.window.stage import Stage


class Sending:
    """Stores prompts and has them answered."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._desk = stage.desk
        self._pane = stage.pane

    async def send(self, text: str) -> None:
        """Store the prompt and answer it; an empty one answers the last that has no reply."""
        pane = self._pane
        async with self._stage.taking_turns():
            if pane.busy:
                pane.prompt.give_back(text)
                pane.notice.tell("One reply at a time: press Esc to stop the one being written.")
                return
            chat_id = await (self._store(text) if text.strip() else self._unanswered())
            if chat_id is not None:
                pane.show(chat_id, await self._desk.branch(chat_id))
                pane.answer(self._desk.store, chat_id)
                await self._stage.refresh_list()

    async def _store(self, text: str) -> str:
        """Put the prompt on disk; it comes back into the prompt if that fails."""
        try:
            await self._desk.opened()
            await self._refuse_if_too_long(text)
            return (await self._desk.send(self._desk.shown, text)).id
        except OpenChatError:
            self._pane.prompt.give_back(text)
            raise

    async def _refuse_if_too_long(self, text: str) -> None:
        """Raise before a prompt is stored that no later prompt of the chat could follow."""
        engine, loaded = self._pane.room.engine, self._pane.room.loaded
        if engine is None or loaded is None:
            return
        conversation = await self._desk.conversation(text)
        try:
            tokens = await asyncio.to_thread(engine.count_tokens, conversation)
        except OpenChatError:
            return  # of the engine; the reply will meet it too, with the prompt on disk
        if tokens >= loaded.context:
            raise ContextOverflow(
                f"With this prompt the chat is {tokens:,} tokens long and the context holds "
                f"{loaded.context:,}: shorten the prompt, start a new chat (Ctrl+N), or restart "
                "with a larger --context."
            )

    async def _unanswered(self) -> str | None:
        """The open chat, if its last prompt has no reply: the engine failed, or was stopped."""
        chat_id = self._desk.shown.id
        return chat_id if chat_id and await self._desk.is_unanswered(chat_id) else None
