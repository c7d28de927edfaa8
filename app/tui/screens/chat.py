"""The chat window: chats on the left, the open one on the right."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, ClassVar

from textual import events, work
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen

from openchat_local.app.printable import one_line
from openchat_local.app.tui.chat.attaching import Attaching
from openchat_local.app.tui.chat.choosing import Choosing
from openchat_local.app.tui.chat.commands import slash_commands
from openchat_local.app.tui.chat.context import WindowContext
from openchat_local.app.tui.chat.deleting import Deleting
from openchat_local.app.tui.chat.drafts import Drafts
from openchat_local.app.tui.chat.editor import write_outside
from openchat_local.app.tui.chat.models import Modelling
from openchat_local.app.tui.chat.options import Tuning
from openchat_local.app.tui.chat.other_windows import OtherWindows
from openchat_local.app.tui.chat.panel import Panel
from openchat_local.app.tui.chat.preferences import Preferences
from openchat_local.app.tui.chat.sending import Sending
from openchat_local.app.tui.chat.slash import NotACommand, parse
from openchat_local.app.tui.chat.sorting import Sorting
from openchat_local.app.tui.chat.suggesting import Suggesting
from openchat_local.app.tui.chat.turns import Turns
from openchat_local.app.tui.chat.work import begin
from openchat_local.app.tui.keys import KeyedApp, key_of
from openchat_local.app.tui.messages import PullEnded
from openchat_local.app.tui.screens.help import Help
from openchat_local.app.tui.screens.search import Search
from openchat_local.app.tui.session import Session
from openchat_local.app.tui.widgets.chat_list import ChatList
from openchat_local.app.tui.widgets.chat_pane import ChatPane
from openchat_local.app.tui.widgets.chat_panel import ChatPanel
from openchat_local.app.tui.widgets.prompt import Mark, Prompt
from openchat_local.app.tui.widgets.suggestions import Suggestions
from openchat_local.app.tui.widgets.transcript import Transcript
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from pathlib import Path

    from openchat_local.app.settings.model import Settings
    from openchat_local.models.engine.protocol import Engine

LIST_FROM_COLUMNS = 90
LIST_AND_PANEL_FROM_COLUMNS = 148
"""With less the code between them could not be read."""
OTHERS_SECONDS = 2.0
ASKING = frozenset({"rename", "tag", "ask_to_delete"})
"""What asks before it is done; one question at a time."""
KEPT_NOWHERE = "temporary · nothing of this chat is kept on disk"


class Columns(Horizontal):
    """Side by side; covered by its children, so there is nothing of its own to render."""

    BLANK = True


class ChatScreen(Screen[None]):
    """Turns keys and messages into calls of the window's parts."""

    DEFAULT_CSS = """
    ChatScreen { layers: base above; }
    ChatPane { width: 1fr; height: 1fr; }
    ChatPane > Transcript { height: 1fr; }
    """
    AUTO_FOCUS = "Prompt"
    BLANK = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop the reply and keep what came", id="reply.stop"),
        Binding("f3", "copy_reply", "Copy the last reply", id="reply.copy"),
        Binding("ctrl+n", "new_chat", "New chat", priority=True, id="chat.new"),
        Binding("ctrl+k", "search", "Search all chats", priority=True, id="chat.search"),
        Binding("f2", "on_chat('rename')", "Rename the chat", priority=True, id="chat.rename"),
        Binding("f5", "on_chat('pin')", "Pin the chat, or unpin it", priority=True, id="chat.pin"),
        Binding("f6", "on_chat('tag')", "Tag the chat", priority=True, id="chat.tag"),
        Binding(
            "f7",
            "on_chat('private')",
            "Mark the chat private, or not",
            priority=True,
            id="chat.private",
        ),
        Binding("ctrl+d", "on_chat('delete')", "Delete the chat", priority=True, id="chat.delete"),
        Binding(
            "ctrl+z", "undo_delete", "Bring back what was deleted", priority=True, id="chat.undo"
        ),
        Binding("ctrl+o", "models", "Choose or fetch a model", priority=True, id="model.choose"),
        Binding("ctrl+b", "toggle_list", "Show or hide the chats", priority=True, id="window.list"),
        Binding("ctrl+t", "toggle_panel", "This chat's settings", priority=True, id="chat.panel"),
        Binding("pageup", "page(-1)", "Scroll up", priority=True, id="window.page-up"),
        Binding("pagedown", "page(1)", "Scroll down", priority=True, id="window.page-down"),
        Binding("f9", "settings", "Settings", priority=True, id="window.settings"),
        Binding("f1", "help", "All keys", priority=True, id="window.keys"),
    ]

    def __init__(self, home: Path, settings: Settings, engine: Engine | OpenChatError) -> None:
        super().__init__()
        self._desk = Session(home, settings)
        self._pane = ChatPane(engine, settings.sampling.as_sampling(), settings.model)
        self._list = ChatList()
        self._stage = WindowContext(self._desk, self._pane, self._list)
        self._drafts = Drafts(self._stage)
        self._modelling = Modelling(self._stage, self._tuned)
        self._tuning = Tuning(self._stage, self._tuned, self._modelling.use)
        self._sending = Sending(self._stage, self._tuning, self._drafts)
        self._choosing = Choosing(self._stage, self._drafts, self._tuning)
        self._deleting = Deleting(self._stage, self._choosing)
        self._sorting = Sorting(self._stage)
        self._acts = {
            "rename": self._sorting.rename,
            "tag": self._sorting.tag,
            "pin": self._sorting.pin,
            "private": self._sorting.make_private,
            "delete": self._deleting.delete,
            "ask_to_delete": self._deleting.ask,
        }
        self._commands = slash_commands(
            self._stage, self._tuning, self._sorting, self._modelling, self.run_action
        )
        self._others = OtherWindows(self._stage)
        self._panel = Panel(self._stage, self._commands)
        self._stage.when_listed = self._panel.refresh
        self.preferences = Preferences(self._stage, self._tuning, self._tuned)
        self._stage.counter.as_prompt = self._as_prompt
        self._attaching = Attaching(self._stage)
        self._suggesting = Suggesting(self._stage, self._commands)
        self._turns = Turns(self._stage, self._tuning)
        self._pane.overflow = settings.context_overflow
        self._list_wanted: bool | None = None
        self._leaving = False

    def compose(self) -> ComposeResult:
        with Columns():
            yield self._list
            yield self._pane
            yield self._panel.widget

    def on_mount(self) -> None:
        self._pane.prompt.first_hearer = self._suggesting.hear
        above = (self._stage.queue.widget, self._attaching.widget, self._suggesting.widget)
        self._pane.mount_all(above, before=self._pane.prompt)
        self._arrange()
        self._tell_problems()
        self.set_interval(OTHERS_SECONDS, self._look_for_others)
        self._open()

    @work
    async def _open(self) -> None:
        with self._stage.telling():
            await self._desk.open()
            await self._stage.refresh_list()

    def _tell_problems(self) -> None:
        """What is wrong with the settings, all of it, once."""
        if isinstance(self.app, KeyedApp) and self.app.problems:
            self._pane.notice.tell("\n".join(self.app.problems), error=True)

    @work(exclusive=True, group="others")
    async def _look_for_others(self) -> None:
        await self._others.look()

    # Sending

    @work
    async def on_prompt_sent(self, message: Prompt.Sent) -> None:
        self._pane.notice.dismiss()
        self._suggesting.remember(message.text)
        try:
            meant = parse(message.text, self._commands)
        except NotACommand as problem:
            self._pane.prompt.give_back(message.text)
            self._pane.notice.tell(str(problem), error=True)
            return
        if isinstance(meant, str):
            await self._sending.send(meant)
        else:
            command, argument = meant
            await command.run(argument)

    @work
    async def on_chat_pane_loaded(self) -> None:
        self._tuned()
        with self._stage.telling():
            await self._tuning.prepare()
        self._pane.answer_waiting()
        self._stage.counter.recount_soon(0.0)
        self._attaching.look()

    @work
    async def on_chat_pane_answered(self, message: ChatPane.Answered) -> None:
        self._stage.counter.recount_soon(0.0)
        with self._stage.telling():
            await self._stage.refresh_list()
            await self._tuning.prepare()
        await self._sending.go_on(well=message.well)

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

    def action_temporary_chat(self) -> None:
        self._begin_new_chat(self._pane.prompt.settled(), temporary=True)

    @work
    async def _begin_new_chat(self, settled: Awaitable[Mark], temporary: bool = False) -> None:
        await self._choosing.begin_new(await settled, temporary=temporary)

    @work(exclusive=True, group="ask")
    async def action_search(self, query: str = "") -> None:
        hit = await self.app.push_screen_wait(Search(self._sorting.find, one_line(query)))
        if hit is not None:
            mark = await self._pane.prompt.settled()
            await self._choosing.find(hit, mark)

    # Sorting

    def action_on_chat(self, act: str) -> None:
        """Do something with the chat that is meant at this moment."""
        meant = self._stage.chat_meant()

        async def run() -> None:
            await self._acts[act](await meant)

        begin(self._pane, run, "ask" if act in ASKING else None)

    @work
    async def action_undo_delete(self) -> None:
        await self._deleting.undo()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Ctrl+Z is the prompt's own while there is something in it to be undone."""
        if action == "undo_delete":
            return self._deleting.can_undo and not self._pane.prompt.text
        return True

    # What the chat is held with

    @work(exclusive=True, group="ask")
    async def action_models(self) -> None:
        await self._modelling.choose()

    def on_pull_ended(self, message: PullEnded) -> None:
        self._modelling.ended(message.pull)

    def _tuned(self) -> None:
        """The open chat is held with something else."""
        self._stage.show_answerer()
        self._panel.refresh()

    def action_toggle_panel(self) -> None:
        self._panel.toggle()
        self._arrange()

    @work(exclusive=True, group="ask")
    async def on_chat_panel_wanted(self, message: ChatPanel.Wanted) -> None:
        await self._panel.change(message.command)

    def on_chat_pane_shown(self) -> None:
        self._pane.prompt.border_title = KEPT_NOWHERE if self._desk.shown.temporary else ""
        self._tuned()

    # Typing

    def _as_prompt(self, text: str) -> str:
        """What of a text the model would get: nothing of a command."""
        try:
            meant = parse(text, self._commands)
        except NotACommand:
            return ""
        return meant if isinstance(meant, str) else ""

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

    def on_paste(self, event: events.Paste) -> None:
        """What was pasted where nothing takes it is meant for the prompt."""
        event.stop()
        self._pane.prompt.focus()
        self._pane.prompt.post_message(events.Paste(event.text))

    def on_text_area_changed(self) -> None:
        self._drafts.save_soon()
        self._stage.counter.recount_soon()
        self._suggesting.look()
        self._attaching.look()

    def on_prompt_editor_wanted(self) -> None:
        self._pane.notice.dismiss()
        write_outside(self._stage)

    def on_suggestions_taken(self, message: Suggestions.Taken) -> None:
        self._suggesting.take(message.suggestion)

    # The window

    def on_resize(self, event: events.Resize) -> None:
        self._arrange()

    def _arrange(self) -> None:
        wanted = self._list_wanted
        width = self.app.size.width  # the screen's own is not known before the first layout
        self._panel.arrange(width)
        beside = self._panel.columns_beside
        needed = LIST_AND_PANEL_FROM_COLUMNS if beside else LIST_FROM_COLUMNS
        self._list.display = width >= needed if wanted is None else wanted
        self._list.fit(width - beside)

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
            self._pane.notice.tell(f"{key_of(self.app, 'window.quit')} quits.")

    def keys_changed(self) -> None:
        """Other keys are in force: name those that the prompt names."""
        self._pane.prompt.name_keys()

    def action_settings(self) -> None:
        self.preferences.open()

    def action_help(self) -> None:
        if isinstance(self.app, KeyedApp):
            slash = [(each.usage, each.summary) for each in self._commands]
            self.app.push_screen(Help(self.app.commands, slash))

    @work
    async def on_transcript_asked(self, message: Transcript.Asked) -> None:
        await self._turns.act(message.action, message.message)

    def action_copy_reply(self) -> None:
        self._pane.action_ask("copy")

    def action_copy_text(self) -> None:
        """What is selected with the mouse, also where the terminal does not copy."""
        text = self.get_selected_text()
        if text is None:
            raise SkipAction
        self._copy_selected(text)

    @work
    async def _copy_selected(self, text: str) -> None:
        await self._turns.copy(text, "What is selected is copied")

    async def may_shut_down(self) -> bool:
        """False while words wait for the store to open: the window then closes by itself once
        they are on disk, and when it is asked again."""
        await self._pane.prompt.settled()
        words = bool(self._pane.prompt.text.strip()) or self._stage.in_turn
        if not words or self._leaving or not self._desk.is_opening:
            return True
        self._leaving = True
        self._pane.notice.tell(
            "The chats are still being opened; your prompt is kept as soon as they are. "
            f"{key_of(self.app, 'window.quit')} again quits without it."
        )
        self._leave_when_open()
        return False

    @work
    async def _leave_when_open(self) -> None:
        await self._desk.opened()
        await self.app.run_action("quit")

    async def shut_down(self) -> None:
        """Put everything away before the window closes."""
        await self._pane.prompt.settled()
        await self._choosing.put_everything_away()
        self._turns.forget_copy()
        self._modelling.put_away()
        with self._stage.telling():
            await self._desk.close()
