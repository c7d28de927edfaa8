"""Which chat lies open: another one, a new one, or none of those that were deleted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from openchat_local.app.tui.chat.revealing import reveal

if TYPE_CHECKING:
    from openchat_local.app.chats import SearchHit
    from openchat_local.app.tui.chat.context import WindowContext
    from openchat_local.app.tui.chat.drafts import Drafts
    from openchat_local.app.tui.chat.options import Tuning
    from openchat_local.app.tui.widgets.prompt import Mark

CANCEL_SECONDS = 2.0


class Choosing:
    """Puts the open chat away before another takes its place."""

    def __init__(self, stage: WindowContext, drafts: Drafts, tuning: Tuning) -> None:
        self._stage = stage
        self._tuning = tuning
        self._drafts = drafts
        self._desk = stage.desk
        self._pane = stage.pane

    async def pick(self, chat_id: str, mark: Mark) -> None:
        """Open a chat; what was typed since `mark` goes into its prompt."""
        async with self._stage.taking_turns():
            if chat_id == self._desk.shown.id:
                return
            typed = await self._put_away(mark)
            try:
                shown = await self._desk.pick(chat_id)
                self._stage.lay_open(shown, await self._desk.branch(chat_id))
                self._pane.prompt.put((shown.chat.draft if shown.chat else "") + typed)
                self._tuning.tell_other_model()
                await self._tuning.prepare()
            finally:
                self._stage.counter.recount_soon(0.0)
                await self._stage.refresh_list()

    async def begin_new(self, mark: Mark, *, temporary: bool = False) -> None:
        """Begin a new chat; what was typed since `mark` goes into its prompt. Nothing of a
        temporary one is ever on disk."""
        async with self._stage.taking_turns():
            self._stage.show_new_chat(await self._put_away(mark), temporary=temporary)
            await self._stage.refresh_list()

    async def find(self, hit: SearchHit, mark: Mark) -> None:
        """Open the chat of something that was found, and go to the message."""
        if hit.message_id is not None:
            async with self._stage.taking_turns():
                await self._desk.reach(hit.chat_id, hit.message_id)
                if hit.chat_id == self._desk.shown.id:
                    self._pane.show(hit.chat_id, await self._desk.branch(hit.chat_id))
        await self.pick(hit.chat_id, mark)
        if hit.message_id is not None and hit.chat_id == self._desk.shown.id:
            reveal(self._pane, hit.message_id)

    async def put_everything_away(self) -> None:
        """Before the window closes: the draft, the reply in progress, the KV state."""
        async with self._stage.taking_turns():
            self._pane.end_edit()
            await self._drafts.save(self._pane.prompt.text)
            await self.end_reply(None)
            self._let_go()
            await self._delete_if_empty()

    async def _put_away(self, mark: Mark) -> str:
        """Save what belongs to the open chat before another takes its place; returns what
        was typed since the mark, which is meant for the other."""
        self._pane.notice.dismiss()
        self._pane.end_edit()
        text, typed = self._pane.prompt.split_at(mark)
        await self._drafts.save(text)
        self._stage.queue.drain()
        self._let_go()
        await self._delete_if_empty()
        return typed + self._pane.prompt.split_at(mark)[1].removeprefix(typed)

    async def _delete_if_empty(self) -> None:
        """A chat in which nothing was ever said leaves nothing."""
        chat = self._desk.shown.chat
        if chat is not None and not chat.message_count and not chat.draft:
            await self._desk.delete_if_empty(chat.id)

    def _let_go(self) -> None:
        """Let the engine write the KV state of the open chat when it has the time."""
        chat, engine = self._desk.shown.chat, self._pane.room.engine
        if chat is not None and engine is not None and self._pane.room.loaded is not None:
            engine.leave(chat.id)

    async def end_reply(self, chat_id: str | None) -> None:
        """Stop the reply in this chat, or in any; what came of it is kept."""
        reply = self._pane.reply
        if reply is not None and chat_id in (None, reply.chat_id):
            reply.cancel()
            await asyncio.to_thread(reply.join, CANCEL_SECONDS)
