"""The chat window: chats on the left, the open one on the right."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, ClassVar

from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen

from openchat_local.app.tui.adapter_command import adapter_wanted
from openchat_local.app.tui.desk import Desk
from openchat_local.app.tui.screens.confirm import Confirm
from openchat_local.app.tui.screens.help import Help
from openchat_local.app.tui.widgets.chat_list import ChatList
from openchat_local.app.tui.widgets.chat_pane import ChatPane
from openchat_local.app.tui.widgets.conversation import Conversation
from openchat_local.app.tui.widgets.prompt import Mark, Prompt
from openchat_local.app.tui.window.adapter import change_adapter
from openchat_local.app.tui.window.choosing import Choosing
from openchat_local.app.tui.window.drafts import Drafts
from openchat_local.app.tui.window.sending import Sending
from openchat_local.app.tui.window.stage import Stage
from openchat_local.app.tui.window.turns import Turns
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from pathlib import Path

    from openchat_local.app.settings import Settings
    from openchat_local.models.engine.protocol import Engine

LIST_FROM_COLUMNS = 90
OTHERS_SECONDS = 2.0


class Columns(Horizontal):
    """Side by side; covered by its children, so there is nothing of its own to render."""

    BLANK = True


class ChatScreen(Screen[None]):
    """Turns keys and messages into calls of the window's parts."""

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
        self._stage = Stage(self._desk, self._pane, self._list)
        self._drafts = Drafts(self._stage)
        self._sending = Sending(self._stage)
        self._choosing = Choosing(self._stage, self._drafts)
        self._turns = Turns(self._stage)
        self._pane.overflow = settings.context_overflow
        self._list_wanted: bool | None = None

    def compose(self) -> ComposeResult:
        with Columns():
            yield self._list
            yield self._pane

    @work
    async def on_mount(self) -> None:
        self._arrange()
        self._check_theme()
        self.set_interval(OTHERS_SECONDS, self._look_for_others)
        with self._stage.telling():
            await self._desk.open()
            await self._stage.refresh_list()

    def _check_theme(self) -> None:
        theme, known = self._desk.settings.tui.theme, self.app.available_themes
        if theme not in known:
            self._pane.notice.tell(
                f"The setting tui.theme names {theme!r}, which is no theme; "
                f"there are {', '.join(sorted(known))}."
            )

    @work(exclusive=True, group="others")
    async def _look_for_others(self) -> None:
        try:
            if await self._desk.others_wrote():
                await self._stage.refresh_list()
        except OpenChatError:
            return  # the user's next action tells what is wrong; this timer would repeat it

    # Sending

    @work
    async def on_prompt_sent(self, message: Prompt.Sent) -> None:
        self._pane.notice.dismiss()
        if (name := adapter_wanted(message.text)) is not None:
            self._change_adapter(name)
        else:
            await self._sending.send(message.text)

    @work(exclusive=True, group="adapter")
    async def _change_adapter(self, name: str) -> None:
        await change_adapter(self._stage, name)

    def on_chat_pane_loaded(self) -> None:
        self._stage.counter.recount_soon(0.0)

    @work
    async def on_chat_pane_answered(self, message: ChatPane.Answered) -> None:
        self._stage.counter.recount_soon(0.0)
        with self._stage.telling():
            await self._stage.refresh_list()

    # Choosing

    @work
    async def on_chat_list_picked(self, message: ChatList.Picked) -> None:
        if self.size.width < LIST_FROM_COLUMNS:
            self._list_wanted = None
            self._arrange()
        self._pane.prompt.focus()
        mark = await self._pane.prompt.settled()
        await self._choosing.pick(message.chat_id, mark)

    def action_new_chat(self) -> None:
        self._begin_new_chat(self._pane.prompt.settled())

    @work
    async def _begin_new_chat(self, settled: Awaitable[Mark]) -> None:
        await self._choosing.begin_new(await settled)

    @work(exclusive=True, group="delete")
    async def action_delete_chat(self) -> None:
        self._pane.notice.dismiss()
        chat_id = self._desk.shown.id
        if self._list.has_focus and (option := self._list.highlighted_option):
            chat_id = option.id
        if chat_id is None:
            return
        question = f"Delete {self._list.name_of(chat_id)} for good? It cannot be brought back."
        if await self.app.push_screen_wait(Confirm(question)):
            await self._choosing.delete(chat_id)

    # Typing

    def on_key(self, event: events.Key) -> None:
        """A character that no widget wanted, and no key of theirs, is meant for the prompt."""
        bound = self.active_bindings.get(event.key)
        if bound is not None and bound.enabled:
            return
        if event.is_printable and event.character:
            event.stop()
            event.prevent_default()
            self._pane.prompt.insert(event.character)
            self._pane.prompt.focus()

    def on_text_area_changed(self) -> None:
        self._drafts.save_soon()
        self._stage.counter.recount_soon()

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
        self._pane.leave()

    def interrupt(self) -> None:
        """Ctrl+C, with nothing selected to be copied."""
        if not self._pane.stop():
            self._pane.notice.tell("Ctrl+Q quits.")

    def action_help(self) -> None:
        self.app.push_screen(Help())

    @work
    async def on_conversation_asked(self, message: Conversation.Asked) -> None:
        await self._turns.act(message.action, message.message)

    @work
    async def action_copy_reply(self) -> None:
        await self._turns.act("copy", None)

    async def shut_down(self) -> None:
        """Put everything away before the window closes."""
        await self._pane.prompt.settled()
        await self._choosing.put_everything_away()
        self._turns.forget_copy()
        with self._stage.telling():
            await self._desk.close()
