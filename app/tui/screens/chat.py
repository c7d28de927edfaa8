"""The chat window: chats on the left, the open one on the right."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, ClassVar

from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen
from textual.timer import Timer

from openchat_local.app.tui.adapter_command import (
    adapter_choices,
    adapter_in_words,
    adapter_wanted,
)
from openchat_local.app.tui.clipboard import copy_with_system_command
from openchat_local.app.tui.desk import Desk, OpenChat
from openchat_local.app.tui.screens.confirm import Confirm
from openchat_local.app.tui.screens.help import Help
from openchat_local.app.tui.widgets.chat_list import ChatList
from openchat_local.app.tui.widgets.chat_pane import ChatPane
from openchat_local.app.tui.widgets.prompt import Mark, Prompt
from openchat_local.models.errors import ContextOverflow, OpenChatError

if TYPE_CHECKING:
    from pathlib import Path

    from openchat_local.app.settings import Settings
    from openchat_local.models.engine.protocol import Engine

LIST_FROM_COLUMNS = 90
DRAFT_SECONDS = 0.5
COUNT_SECONDS = 0.3
OTHERS_SECONDS = 2.0
CANCEL_SECONDS = 2.0


class Columns(Horizontal):
    """Side by side; covered by its children, so there is nothing of its own to render."""

    BLANK = True


class ChatScreen(Screen[None]):
    """Turns keys into calls of the desk, which stores, and of the pane, which answers."""

    DEFAULT_CSS = """
    ChatPane { width: 1fr; height: 1fr; }
    ChatPane > Transcript { height: 1fr; }
    """
    AUTO_FOCUS = "Prompt"
    BLANK = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop"),
        Binding("ctrl+n", "new_chat", "New chat", priority=True),
        Binding("ctrl+d", "delete_chat", "Delete", priority=True),
        Binding("ctrl+b", "toggle_list", "Chats", priority=True),
        Binding("f1", "help", "Keys"),
        Binding("f3", "copy_reply", "Copy reply"),
        Binding("pageup", "page(-1)", show=False, priority=True),
        Binding("pagedown", "page(1)", show=False, priority=True),
    ]

    def __init__(self, home: Path, settings: Settings, engine: Engine | OpenChatError) -> None:
        super().__init__()
        self._desk = Desk(home, settings)
        self._pane = ChatPane(engine, settings.sampling.as_sampling(), settings.model)
        self._list = ChatList()
        # Whatever changes the open chat or its prompt takes its turn: half of one such
        # change after half of another would put a draft into the wrong chat.
        self._turn = asyncio.Lock()
        self._list_wanted: bool | None = None
        self._draft_timer: Timer | None = None
        self._count_timer: Timer | None = None

    def compose(self) -> ComposeResult:
        with Columns():
            yield self._list
            yield self._pane

    @work
    async def on_mount(self) -> None:
        self._arrange()
        self._check_theme()
        self.set_interval(OTHERS_SECONDS, self._look_for_others)
        with self._telling():
            await self._desk.open()
            await self._refresh_list()

    def _check_theme(self) -> None:
        theme, known = self._desk.settings.tui.theme, self.app.available_themes
        if theme not in known:
            self._pane.notice.tell(
                f"The setting tui.theme names {theme!r}, which is no theme; "
                f"there are {', '.join(sorted(known))}."
            )

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Tell the user what went wrong inside, in one sentence."""
        try:
            yield
        except OpenChatError as problem:
            self._pane.notice.tell(str(problem), error=True)

    @asynccontextmanager
    async def _taking_turns(self) -> AsyncIterator[None]:
        from openchat_local.app.chats import ChatNotFound

        async with self._turn:
            with self._telling():
                try:
                    yield
                except ChatNotFound:
                    if not await self._leave_if_gone():
                        raise

    async def _leave_if_gone(self) -> bool:
        """Begin a new chat with the prompt as it is, if the open one was deleted elsewhere."""
        chat_id = self._desk.shown.id
        if chat_id is None or not await self._desk.is_gone(chat_id):
            return False
        self._forget(chat_id)
        self._show_new_chat(self._pane.prompt.text)
        self._pane.notice.tell(
            "This chat was deleted elsewhere: your next prompt begins a new one."
        )
        await self._refresh_list()
        return True

    async def _refresh_list(self) -> None:
        self._list.show(await self._desk.chats(), self._desk.shown.id)

    @work(exclusive=True, group="others")
    async def _look_for_others(self) -> None:
        try:
            if await self._desk.others_wrote():
                await self._refresh_list()
        except OpenChatError:
            return  # the user's next action tells what is wrong; this timer would repeat it

    # Sending

    @work
    async def on_prompt_sent(self, message: Prompt.Sent) -> None:
        pane, text = self._pane, message.text
        pane.notice.dismiss()
        if (name := adapter_wanted(text)) is not None:
            self._change_adapter(name)
            return
        async with self._taking_turns():
            if pane.busy:
                pane.prompt.give_back(text)
                pane.notice.tell("One reply at a time: press Esc to stop the one being written.")
                return
            chat_id = await (self._send(text) if text.strip() else self._unanswered())
            if chat_id is not None:
                pane.show(chat_id, await self._desk.branch(chat_id))
                pane.answer(self._desk.store, chat_id)
                await self._refresh_list()

    async def _send(self, text: str) -> str:
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

    @work(exclusive=True, group="adapter")
    async def _change_adapter(self, name: str) -> None:
        pane = self._pane
        with self._telling():
            if not name:
                loaded = pane.room.loaded
                in_force = "" if loaded is None else adapter_in_words(loaded) + " "
                pane.notice.tell(in_force + await asyncio.to_thread(adapter_choices))
            elif pane.busy:
                pane.notice.tell("A reply is being written: wait for it, or press Esc to stop it.")
            else:
                model = await asyncio.to_thread(pane.room.set_adapter, name)
                pane.notice.tell(adapter_in_words(model))
                await self._desk.hold_with(name)

    def on_chat_pane_loaded(self) -> None:
        self._recount_soon(0.0)

    @work
    async def on_chat_pane_answered(self, message: ChatPane.Answered) -> None:
        self._recount_soon(0.0)
        with self._telling():
            await self._refresh_list()

    # Choosing

    @work
    async def on_chat_list_picked(self, message: ChatList.Picked) -> None:
        if self.size.width < LIST_FROM_COLUMNS:
            self._list_wanted = None
            self._arrange()
        self._pane.prompt.focus()
        mark = await self._pane.prompt.settled()
        async with self._taking_turns():
            if message.chat_id == self._desk.shown.id:
                return
            typed = await self._put_away(mark)
            try:
                chat = await self._desk.pick(message.chat_id)
                self._pane.show(chat.id, await self._desk.branch(chat.id))
                self._pane.prompt.put(chat.draft + typed)
            finally:
                self._recount_soon(0.0)
                await self._refresh_list()

    def action_new_chat(self) -> None:
        self._begin_new_chat(self._pane.prompt.settled())

    @work
    async def _begin_new_chat(self, settled: Awaitable[Mark]) -> None:
        mark = await settled
        async with self._taking_turns():
            self._show_new_chat(await self._put_away(mark))
            await self._refresh_list()

    def _show_new_chat(self, prompt: str = "") -> None:
        self._desk.shown = OpenChat()
        self._pane.show(None, ())
        if prompt != self._pane.prompt.text:
            self._pane.prompt.put(prompt)
        self._pane.prompt.focus()
        self._recount_soon(0.0)

    async def _put_away(self, mark: Mark) -> str:
        """Save what belongs to the open chat before another takes its place; returns what
        was typed since the mark, which is meant for the other."""
        self._pane.notice.dismiss()
        text, typed = self._pane.prompt.split_at(mark)
        await self.save_draft(text)
        self._let_go()
        chat = self._desk.shown.chat
        if chat is not None and not chat.message_count and not chat.draft:
            await self._desk.delete_if_empty(chat.id)
        return typed + self._pane.prompt.split_at(mark)[1].removeprefix(typed)

    def _let_go(self) -> None:
        """Let the engine write the KV state of the open chat when it has the time."""
        chat, engine = self._desk.shown.chat, self._pane.room.engine
        if chat is not None and engine is not None and self._pane.room.loaded is not None:
            engine.leave(chat.id)

    @work(exclusive=True, group="delete")
    async def action_delete_chat(self) -> None:
        self._pane.notice.dismiss()
        chat_id = self._desk.shown.id
        if self._list.has_focus and (option := self._list.highlighted_option):
            chat_id = option.id
        if chat_id is None:
            return
        question = f"Delete {self._list.name_of(chat_id)} for good? It cannot be brought back."
        if not await self.app.push_screen_wait(Confirm(question)):
            return
        async with self._taking_turns():
            await self._end_reply(chat_id)
            await self._desk.delete(chat_id)
            self._forget(chat_id)
            if chat_id == self._desk.shown.id:
                self._show_new_chat()
            await self._refresh_list()

    def _forget(self, chat_id: str) -> None:
        if (engine := self._pane.room.engine) is not None:
            engine.forget(chat_id)

    async def _end_reply(self, chat_id: str | None) -> None:
        reply = self._pane.reply
        if reply is not None and chat_id in (None, reply.chat_id):
            reply.cancel()
            await asyncio.to_thread(reply.join, CANCEL_SECONDS)

    # Typing

    def on_key(self, event: events.Key) -> None:
        """A character that no widget wanted is meant for the prompt."""
        if event.is_printable and event.character:
            event.stop()
            event.prevent_default()
            self._pane.prompt.insert(event.character)
            self._pane.prompt.focus()

    # Drafts and counts

    def on_text_area_changed(self) -> None:
        self._cancel_draft()
        self._draft_timer = self.set_timer(DRAFT_SECONDS, self._save_draft_now)
        self._recount_soon(COUNT_SECONDS)

    def _cancel_draft(self) -> None:
        if self._draft_timer is not None:
            self._draft_timer.stop()
            self._draft_timer = None

    @work
    async def _save_draft_now(self) -> None:
        async with self._taking_turns():
            await self.save_draft(self._pane.prompt.text)

    async def save_draft(self, text: str) -> None:
        """Put a prompt that was not sent on disk."""
        from openchat_local.app.chats import ChatNotFound

        self._cancel_draft()
        try:
            await self._desk.save_draft(self._desk.shown, text)
        except ChatNotFound:
            if not await self._leave_if_gone():
                raise
            await self._desk.save_draft(self._desk.shown, text)

    def _recount_soon(self, seconds: float) -> None:
        if self._count_timer is not None:
            self._count_timer.stop()
        self._count_timer = self.set_timer(max(0.01, seconds), self._recount)

    @work(exclusive=True, group="count")
    async def _recount(self) -> None:
        """Count the open chat with the unsent prompt, in the model's own tokens."""
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

    # The window

    def on_resize(self, event: events.Resize) -> None:
        self._arrange()

    def _arrange(self) -> None:
        wanted = self._list_wanted
        width = self.app.size.width  # the screen's own is not known before the first layout
        self._list.display = width >= LIST_FROM_COLUMNS if wanted is None else wanted

    def action_toggle_list(self) -> None:
        self._list_wanted = not self._list.display
        self._arrange()
        (self._list if self._list_wanted else self._pane.prompt).focus()

    async def action_page(self, direction: int) -> None:
        if self._list.has_focus:
            await self._list.run_action("page_up" if direction < 0 else "page_down")
        else:
            self._pane.transcript.page(direction)

    def action_stop(self) -> None:
        self._pane.notice.dismiss()
        self._pane.stop()

    def interrupt(self) -> None:
        """Ctrl+C, with nothing selected to be copied."""
        if not self._pane.stop():
            self._pane.notice.tell("Ctrl+Q quits.")

    def action_help(self) -> None:
        self.app.push_screen(Help())

    @work(exclusive=True, group="copy")
    async def action_copy_reply(self) -> None:
        with self._telling():
            chat_id = self._desk.shown.id
            if chat_id is not None and (reply := await self._desk.last_reply(chat_id)):
                self.app.copy_to_clipboard(reply)
                await asyncio.to_thread(copy_with_system_command, reply)
                self._pane.notice.tell("The last reply is copied.")

    async def shut_down(self) -> None:
        """Put everything away before the window closes."""
        await self._pane.prompt.settled()
        async with self._taking_turns():
            await self.save_draft(self._pane.prompt.text)
            await self._end_reply(None)
            self._let_go()
        with self._telling():
            await self._desk.close()
