"""Deleting chats, with some time to think better of it."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from openchat_local.app.tui.chat.work import begin
from openchat_local.app.tui.keys import key_of
from openchat_local.app.tui.screens.confirm import Confirm
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.tui.chat.choosing import Choosing
    from openchat_local.app.tui.chat.context import WindowContext

UNDO_SECONDS = 30.0


class Deleting:
    """A deleted chat is out of sight at once, and erased when the time to undo is over, when
    the window closes, or, after a crash, when the store is opened next."""

    def __init__(self, stage: WindowContext, choosing: Choosing) -> None:
        self._stage = stage
        self._choosing = choosing
        self._deleted: list[str] = []

    @property
    def can_undo(self) -> bool:
        """Whether there is a chat to be brought back."""
        return bool(self._deleted)

    async def ask(self, chat_id: str | None) -> None:
        """Delete a chat if the user says yes: a word is more easily meant otherwise than a key."""
        if chat_id is None:
            self._stage.pane.notice.tell("There is nothing to delete yet.")
            return
        question = f"Delete {self._stage.list.name_of(chat_id)}?"
        if await self._stage.pane.app.push_screen_wait(Confirm(question)):
            await self.delete(chat_id)

    async def delete(self, chat_id: str | None) -> None:
        """Delete a chat; a new one takes its place if it was open. None is a new chat, which
        has nothing to be deleted."""
        stage = self._stage
        stage.pane.notice.dismiss()
        if chat_id is None:
            return
        from openchat_local.app.chats import ChatNotFound

        name = stage.list.name_of(chat_id)
        async with stage.taking_turns():
            await self._choosing.end_reply(chat_id)
            if chat_id == stage.desk.shown.id:
                with suppress(ChatNotFound):
                    unsent = stage.queue.before(stage.pane.prompt.text)
                    await stage.desk.save_draft(stage.desk.shown, unsent)
            hidden = await stage.desk.hide(chat_id)
            stage.forget(chat_id)
            if chat_id == stage.desk.shown.id:
                stage.show_new_chat()
            await stage.refresh_list()
            if hidden is not None:
                self._deleted.append(chat_id)
                stage.pane.set_timer(UNDO_SECONDS, lambda: self._begin_to_erase(chat_id))
                stage.pane.notice.tell(
                    f"{name[0].upper()}{name[1:]} is deleted. "
                    f"{key_of(stage.pane.app, 'chat.undo')} brings it back: for "
                    f"{UNDO_SECONDS:.0f} seconds, as long as this window is open."
                )

    async def undo(self) -> None:
        """Bring back the chat that was deleted last, and open it."""
        stage = self._stage
        if not self._deleted:
            return
        chat_id = self._deleted.pop()
        mark = await stage.pane.prompt.settled()
        back = False
        async with stage.taking_turns():
            await stage.desk.unhide(chat_id)
            back = True
            await stage.refresh_list()
        if not back:  # why is told; it can still be tried again
            self._deleted.append(chat_id)
            return
        await self._choosing.pick(chat_id, mark)
        stage.pane.notice.tell(f"{stage.list.name_of(chat_id)} is back.")

    def _begin_to_erase(self, chat_id: str) -> None:
        begin(self._stage.pane, partial(self._erase, chat_id))

    async def _erase(self, chat_id: str) -> None:
        if chat_id in self._deleted:
            self._deleted.remove(chat_id)
            try:
                await self._stage.desk.erase(chat_id)
            except OpenChatError:
                return  # tried again when the window closes, which tells what is wrong
