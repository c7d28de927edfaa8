"""Chats: which one lies open, which are found, deleted, brought back, or changed elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from openchat_local.app.tui.chat.context import Unsent
from openchat_local.app.tui.keys import key_of
from openchat_local.app.tui.questions.confirm import Confirm
from openchat_local.app.tui.session import FOUND
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.chats import SearchHit
    from openchat_local.app.tui.chat.context import WindowContext
    from openchat_local.app.tui.chat.drafts import Drafts
    from openchat_local.app.tui.chat.options import Options

CANCEL_SECONDS = 2.0
UNDO_SECONDS = 30.0
MORE_BELOW = "There is something new at the end of this chat, from another window."


class Chats:
    """Puts the active chat away before another takes its place.

    A deleted chat is out of sight at once, and erased when the time to undo is over, when the
    window closes, or, after a crash, when the store is opened next.
    """

    def __init__(self, window: WindowContext, options: Options, drafts: Drafts) -> None:
        self._window = window
        self._session = window.session
        self._pane = window.pane
        self._options = options
        self._drafts = drafts
        self._deleted: list[str] = []
        self._behind = False

    # Opening

    async def open(self, chat_id: str, unsent: Unsent) -> None:
        """Open a chat. `unsent` was taken out of the prompt box when this was asked for; what
        was written since is meant for the chat."""
        window = self._window
        async with window.taking_turns():
            if chat_id == self._session.active.id:
                window.stays(window.leaves(unsent))
                return
            all_unsent = await self._put_away(unsent)
            try:
                from openchat_local.app.chats import ChatStore

                with self._kept(all_unsent):
                    active = await self._session.load(chat_id)
                    branch = await self._session.run(ChatStore.branch, chat_id)
                window.lay_open(active, branch)
                window.stays(active.chat.draft if active.chat else "")
                self._options.tell_other_model()
                await self._options.prepare()
            finally:
                window.meter.recount_soon(0.0)
                await window.refresh_list()

    async def begin_new(self, unsent: Unsent | None = None, *, temporary: bool = False) -> None:
        """Begin a new chat; `unsent` is as in `open`, None where the box had nothing but the
        command. Nothing of a temporary one is ever on disk."""
        window = self._window
        async with window.taking_turns():
            await self._put_away(unsent)
            window.show_new_chat(temporary=temporary)
            await window.refresh_list()

    async def search(self, query: str) -> Sequence[SearchHit]:
        """What a query finds, "#tag" by tags; the chats used last for an empty one. Raises
        OpenChatError."""
        from openchat_local.app.chats import ChatStore
        from openchat_local.app.chats.search import chat_hit

        if query.strip():
            return await self._session.run(ChatStore.search, query, limit=FOUND)
        return [chat_hit(chat) for chat in (await self._session.chats())[:FOUND]]

    async def open_found(self, hit: SearchHit, unsent: Unsent) -> None:
        """Open the chat of something that was found, and go to the message."""
        message_id = hit.message_id
        if message_id is not None:
            async with self._window.taking_turns():
                await self._show_branch_with(hit.chat_id, message_id)
        await self.open(hit.chat_id, unsent)
        if message_id is not None and hit.chat_id == self._session.active.id:
            self._window.transcript.select(message_id)
            self._window.transcript.reveal(message_id)

    async def _show_branch_with(self, chat_id: str, message_id: str) -> None:
        """Have the branch shown that a message is on. Raises MessageNotFound."""
        from openchat_local.app.chats import ChatStore

        branch = await self._session.run(ChatStore.branch, chat_id)
        if all(message.id != message_id for message in branch):
            await self._session.run(ChatStore.show_leaf, chat_id, message_id)
            branch = await self._session.run(ChatStore.branch, chat_id)
        if chat_id == self._session.active.id:
            self._pane.show(chat_id, branch)

    # Putting away

    async def put_everything_away(self) -> None:
        """Before the window closes: the draft, the reply in progress, the KV state."""
        async with self._window.taking_turns():
            self._pane.end_edit()
            await self._drafts.save(self._window.unsent)
            await self._end_reply(None)
            await self._leave()

    async def _put_away(self, unsent: Unsent | None) -> str:
        """Save what belongs to the active chat before another takes its place; returns all of
        its unsent words."""
        window = self._window
        window.notice.dismiss()
        text = "" if unsent is None else window.leaves(unsent)
        with self._kept(text):
            await self._drafts.save(text)
        text = window.queue.before(text)
        window.queue.drain()
        await self._leave()
        return text

    @contextmanager
    def _kept(self, text: str) -> Iterator[None]:
        """Give the unsent words back where the chat stays open."""
        try:
            yield
        except OpenChatError:
            self._window.stays(text)
            raise

    async def _leave(self) -> None:
        """Let the engine write the KV state when it has the time. A chat in which nothing was
        ever said leaves nothing."""
        from openchat_local.app.chats import ChatStore

        chat, loader = self._session.active.chat, self._window.loader
        if chat is None:
            return
        if loader.engine is not None and loader.loaded is not None:
            loader.engine.leave(chat.id)
        if not chat.message_count and not chat.draft:
            await self._session.run(ChatStore.delete_if_empty, chat.id)

    async def _end_reply(self, chat_id: str | None) -> None:
        """Stop the reply in this chat, or in any; what came of it is kept."""
        reply = self._pane.reply or self._pane.both
        if reply is not None and chat_id in (None, reply.chat_id):
            reply.cancel()
            await asyncio.to_thread(reply.join, CANCEL_SECONDS)

    # Deleting

    @property
    def can_undo(self) -> bool:
        """Whether there is a chat to be brought back."""
        return bool(self._deleted)

    async def ask_to_delete(self, chat_id: str | None) -> None:
        """Delete a chat if the user says yes: a word is more easily meant otherwise than a key."""
        if chat_id is None:
            self._window.tell("There is nothing to delete yet.")
        elif await self._window.ask(Confirm(f"Delete {self._window.list.name_of(chat_id)}?")):
            is_open = chat_id == self._session.active.id
            await self.delete(chat_id, self._window.leave_for(None) if is_open else Unsent())

    async def delete(self, chat_id: str | None, unsent: Unsent) -> None:
        """Delete a chat; a new one takes its place if it was open, and `unsent` is as in `open`.
        None is a new chat, which has nothing to be deleted."""
        window = self._window
        window.notice.dismiss()
        name = "" if chat_id is None else window.list.name_of(chat_id)
        async with window.taking_turns():
            text, is_open = window.leaves(unsent), chat_id == self._session.active.id
            if chat_id is None or not is_open:
                window.stays(text)
            if chat_id is None:
                return
            with self._kept(text if is_open else ""):
                was_there = await self._hide(chat_id, text)
            if is_open:
                window.show_new_chat()
            await window.refresh_list()
            if was_there:
                self._deleted.append(chat_id)
                erase = partial(self._erase, chat_id)
                self._pane.set_timer(UNDO_SECONDS, lambda: window.begin(erase))
                window.tell(
                    f"{name[0].upper()}{name[1:]} is deleted. "
                    f"{key_of(self._pane.app, 'chat.undo')} brings it back: for "
                    f"{UNDO_SECONDS:.0f} seconds, as long as this window is open."
                )

    async def _hide(self, chat_id: str, unsent: str) -> bool:
        """Delete a chat so that it can be brought back; its KV states go at once. False, and no
        harm done, when others have deleted it already."""
        from openchat_local.app.chats import ChatNotFound, ChatStore

        session = self._session
        await self._end_reply(chat_id)
        was_there = False
        with suppress(ChatNotFound):
            if chat_id == session.active.id:
                await session.save_draft(session.active, self._drafts.as_draft(unsent))
            await session.run(ChatStore.hide_chat, chat_id)
            was_there = True
        await session.forget_states(chat_id)
        self._window.forget(chat_id)
        return was_there

    async def undo(self, unsent: Unsent) -> None:
        """Bring back the chat that was deleted last, and open it; `unsent` as in `open`."""
        from openchat_local.app.chats import ChatStore

        window = self._window
        if not self._deleted:
            window.stays(window.leaves(unsent))
            return
        chat_id = self._deleted.pop()
        back = False
        async with window.taking_turns():
            await self._session.run(ChatStore.unhide_chat, chat_id)
            back = True
            await window.refresh_list()
        if not back:  # why is told; it can still be tried again
            self._deleted.append(chat_id)
            window.stays(window.leaves(unsent))
            return
        await self.open(chat_id, unsent)
        window.tell(f"{window.list.name_of(chat_id)} is back.")

    async def _erase(self, chat_id: str) -> None:
        from openchat_local.app.chats import ChatStore

        if chat_id in self._deleted:
            self._deleted.remove(chat_id)
            with suppress(OpenChatError):  # tried again when the window closes, which tells why
                await self._session.run(ChatStore.erase_hidden, chat_id)

    # Other windows

    async def take_over_others(self) -> None:
        """Show what other windows on the same home have written, in the list and in the active
        chat. The database knows without a look at its rows whether anybody wrote."""
        try:
            if await self._session.others_wrote():
                self._behind = True
                await self._window.refresh_list()
            if self._behind:
                await self._catch_up()
        except OpenChatError:
            return  # the user's next action tells what is wrong; the timer would repeat it

    async def _catch_up(self) -> None:
        window, pane, transcript = self._window, self._pane, self._window.transcript
        chat_id = self._session.active.id
        if chat_id is None or pane.busy or pane.editing is not None:
            self._behind = chat_id is not None  # looked at again when that is over
            return
        branch = await self._session.look_again()
        if self._session.active.id != chat_id or branch == list(transcript.turns):
            self._behind = False
        elif transcript.at_end:
            self._behind = False
            pane.show(chat_id, branch)
            window.meter.recount_soon(0.0)
        elif not window.notice.text:  # a reader who has scrolled up is not dragged down
            window.tell(MORE_BELOW, stays=True)
