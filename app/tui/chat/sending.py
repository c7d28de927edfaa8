"""A prompt on its way to the disk and to the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from openchat_local.app.replies.attachments import expanded
from openchat_local.app.replies.stream import ReplyPlace, refuse_if_too_long
from openchat_local.models.errors import ContextOverflow, OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.chats import StoredMessage
    from openchat_local.app.tui.chat.context import WindowContext
    from openchat_local.app.tui.chat.drafts import Drafts
    from openchat_local.app.tui.chat.options import Tuning


class Sending:
    """Stores prompts and has them answered."""

    def __init__(self, stage: WindowContext, tuning: Tuning, drafts: Drafts) -> None:
        self._stage = stage
        self._tuning = tuning
        self._drafts = drafts
        self._desk = stage.desk
        self._pane = stage.pane

    async def send(self, text: str) -> None:
        """Store the prompt and answer it, now or when the reply being written has ended; an
        empty one answers the last that has no reply."""
        pane, queue = self._pane, self._stage.queue
        async with self._stage.taking_turns():
            if (pane.busy or queue) and text.strip() and pane.editing is None:
                queue.add(text)
                if not pane.busy:
                    await self._answer(queue.take_first())
                self._drafts.save_soon()
            elif pane.busy:
                pane.prompt.give_back(text)
                pane.notice.tell("One reply at a time: press Esc to stop the one being written.")
            else:
                await self._answer(text, pane.editing)

    async def go_on(self, *, well: bool) -> None:
        """A reply has ended: send what waited for it. What waited for one that was stopped or
        failed is the user's again."""
        pane, queue = self._pane, self._stage.queue
        async with self._stage.taking_turns():
            if pane.busy or not queue:
                return
            if well:
                await self._answer(queue.take_first())
            elif pane.editing is None:  # else the box holds an earlier prompt, not what is next
                pane.prompt.give_back(queue.drain())
            self._drafts.save_soon()

    async def _answer(self, text: str, instead_of: StoredMessage | None = None) -> None:
        """Have a prompt answered, perhaps as a new version of an earlier one; for whoever has
        the turn. Raises OpenChatError."""
        pane = self._pane
        chat_id = await (self._store(text, instead_of) if text.strip() else self._unanswered())
        if chat_id is not None:
            await self._tuning.prepare()
            branch = await self._desk.branch(chat_id)
            pane.show(chat_id, branch)
            pane.answer(self._desk.store_of(chat_id), chat_id, _place(branch))
            await self._stage.refresh_list()

    async def _store(self, text: str, instead_of: StoredMessage | None) -> str:
        """Put the prompt on disk; it comes back into the prompt if that fails."""
        try:
            await self._desk.opened()
            await self._tuning.prepare()  # before the prompt is stored: it may raise
            whole = await asyncio.to_thread(expanded, text)
            await self._refuse_if_too_long(whole.text, instead_of)
            chat = await self._desk.send(self._desk.shown, whole.text, instead_of)
            if instead_of is not None:
                self._pane.end_edit()
            if whole.problems:
                self._pane.notice.tell(" ".join(whole.problems), stays=True)
            return chat.id
        except OpenChatError:
            # What waits behind it would otherwise wait for ever.
            self._pane.prompt.give_back(self._stage.queue.after(text))
            raise

    async def _refuse_if_too_long(self, text: str, instead_of: StoredMessage | None) -> None:
        """Raise before a prompt is stored that no reply could follow."""
        engine = self._pane.room.engine
        if engine is None or self._pane.room.loaded is None:
            return
        prompted = await self._desk.prompted(text, instead_of)
        try:
            await asyncio.to_thread(
                refuse_if_too_long,
                engine,
                prompted.conversation,
                self._pane.sampling,
                self._pane.overflow,
            )
        except ContextOverflow:
            raise
        except OpenChatError:
            return  # of the engine; the reply will meet it too, with the prompt on disk

    async def _unanswered(self) -> str | None:
        """The open chat, if its last prompt has no reply: the engine failed, or was stopped."""
        chat_id = self._desk.shown.id
        return chat_id if chat_id and await self._desk.is_unanswered(chat_id) else None


def _place(branch: Sequence[StoredMessage]) -> ReplyPlace:
    """Under the last prompt: a reply without a word is no turn to go on from."""
    last = branch[-1]
    return ReplyPlace(under=last.id if last.role == "user" else last.parent_id)
