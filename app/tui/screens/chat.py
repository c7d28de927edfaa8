"""The chat window: chats on the left, the open one on the right."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual import events, work
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen

from openchat_local.app.printable import one_line
from openchat_local.app.tui.chat import labels, option_rows
from openchat_local.app.tui.chat.chats import Chats
from openchat_local.app.tui.chat.comparing import Comparing
from openchat_local.app.tui.chat.context import Unsent, WindowContext
from openchat_local.app.tui.chat.drafts import Drafts
from openchat_local.app.tui.chat.models import Models
from openchat_local.app.tui.chat.options import Options
from openchat_local.app.tui.chat.preferences import Preferences
from openchat_local.app.tui.chat.prompts import Prompts
from openchat_local.app.tui.chat.slash import slash_commands
from openchat_local.app.tui.chat.training import Training
from openchat_local.app.tui.chat.turns import Turns
from openchat_local.app.tui.chat.versions import Versions
from openchat_local.app.tui.judging import JudgingEnded
from openchat_local.app.tui.keys import KeyedApp, key_of
from openchat_local.app.tui.pair_streaming import PairEnded, PairEvent
from openchat_local.app.tui.pulling import PullEnded
from openchat_local.app.tui.screens.help import Help
from openchat_local.app.tui.screens.learn import LearnScreen
from openchat_local.app.tui.screens.learn_words import Learner
from openchat_local.app.tui.screens.models import ModelsScreen
from openchat_local.app.tui.screens.search import Search
from openchat_local.app.tui.screens.settings import SettingsScreen
from openchat_local.app.tui.screens.training import TrainingScreen
from openchat_local.app.tui.session import Session
from openchat_local.app.tui.widgets.blind_pair import PairPane
from openchat_local.app.tui.widgets.chat_list import ChatList
from openchat_local.app.tui.widgets.chat_pane import ChatPane
from openchat_local.app.tui.widgets.options_panel import OptionsPanel
from openchat_local.app.tui.widgets.prompt import Prompt
from openchat_local.app.tui.widgets.suggestions import Suggestions
from openchat_local.app.tui.widgets.transcript import Transcript

if TYPE_CHECKING:
    from pathlib import Path

    from openchat_local.app.settings.model import Settings
    from openchat_local.app.tui.screens.versions import Wanted
    from openchat_local.models.engine.protocol import Engine
    from openchat_local.models.errors import OpenChatError

LIST_FROM_COLUMNS = 90
LIST_AND_PANEL_FROM_COLUMNS = 148
"""With less the code between them could not be read."""
OTHERS_SECONDS = 2.0
ON_CHAT = {
    "rename": labels.rename,
    "tag": labels.tag,
    "pin": labels.pin,
    "private": labels.make_private,
}
ASKING = frozenset({"rename", "tag", "ask_to_delete"})
"""What asks before it is done; one question at a time."""


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
        Binding(
            "alt+l", "look_at_files", "Look at what goes along", priority=True, id="prompt.files"
        ),
        Binding(
            "alt+o,f11",
            "thoughts",
            "Open what the last reply thought",
            priority=True,  # Alt+O comes as a letter, too
            id="reply.thoughts",
        ),
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
        Binding(
            "f8", "learn", "Let the model learn from your chats", priority=True, id="learn.open"
        ),
        Binding(
            "f12", "roll_back", "Answer with the version before", priority=True, id="version.before"
        ),
        Binding("ctrl+b", "toggle_list", "Show or hide the chats", priority=True, id="window.list"),
        Binding("ctrl+t", "toggle_panel", "This chat's settings", priority=True, id="chat.panel"),
        Binding("pageup", "page(-1)", "Scroll up", priority=True, id="window.page-up"),
        Binding("pagedown", "page(1)", "Scroll down", priority=True, id="window.page-down"),
        Binding("ctrl+l", "training", "What is being learned", priority=True, id="window.training"),
        Binding("f9", "settings", "Settings", priority=True, id="window.settings"),
        Binding("f1", "help", "All keys", priority=True, id="window.keys"),
    ]

    def __init__(self, home: Path, settings: Settings, engine: Engine | OpenChatError) -> None:
        super().__init__()
        self._session = Session(home, settings)
        self._pane = ChatPane(engine, settings.sampling.as_sampling(), settings.model)
        self._list = ChatList()
        self._panel = OptionsPanel()
        self._window = WindowContext(self._session, self._pane, self._list, self._panel)
        drafts = Drafts(self._window)
        self._models = Models(self._window)
        self._options = Options(self._window, self._models)
        self._versions = Versions(self._window, self._options)
        self._chats = Chats(self._window, self._options, drafts)
        self._turns = Turns(self._window, self._options)
        self.training = Training(self._window)
        self._comparing = Comparing(self._window, self._options, self._versions)
        self._commands = slash_commands(
            self._window, self._options, self._chats, self._comparing, self.run_action
        )
        learn = next((each for each in self._commands if each.name == "learn"), None)
        self._comparing.learn = None if learn is None else partial(learn.run, "")
        self._prompts = Prompts(
            self._window, self._options, drafts, self._commands, self._comparing
        )
        self.preferences = Preferences(self._window, self._options)
        self._pane.overflow = settings.context_overflow
        self._list_wanted: bool | None = None
        self._leaving = False

    def compose(self) -> ComposeResult:
        with Columns():
            yield self._list
            yield self._pane
            yield self._panel

    def on_mount(self) -> None:
        self._pane.prompt.first_hearer = self._prompts.completion.hear
        self._pane.mount_all(self._prompts.widgets, before=self._pane.prompt)
        self._arrange()
        self._tell_problems()
        self.set_interval(OTHERS_SECONDS, self._look_for_others)
        self._open()

    @work
    async def _open(self) -> None:
        with self._window.telling():
            await self._session.open()
            await self._window.refresh_list()
        await self.training.look()

    def _tell_problems(self) -> None:
        """What is wrong with the settings, all of it, once."""
        if isinstance(self.app, KeyedApp) and self.app.problems:
            self._window.tell("\n".join(self.app.problems), error=True)

    @work(exclusive=True, group="others")
    async def _look_for_others(self) -> None:
        await self._chats.take_over_others()
        await self.training.look()

    # Prompts and replies

    def on_prompt_sent(self, message: Prompt.Sent) -> None:
        if message.text.split(maxsplit=1)[:1] == ["/compare"]:  # what was learned is judged
            self._window.begin(self.training.seen)
        self._prompts.enter(message.text, message.instead_of)

    @work
    async def on_chat_pane_loaded(self) -> None:
        loaded = self._window.loader.loaded
        if loaded is not None and loaded.remote is not None:
            self._session.answers_there(loaded.name)
        self._window.show_options()
        with self._window.telling():
            await self._options.prepare()
        self._pane.answer_waiting()
        self._prompts.loaded()

    @work
    async def on_chat_pane_answered(self, message: ChatPane.Answered) -> None:
        self._window.meter.recount_soon(0.0)
        with self._window.telling():
            await self._window.refresh_list()
            await self._options.prepare()
        await self._prompts.go_on(well=message.well)

    def on_pair_event(self, message: PairEvent) -> None:
        self._comparing.take(message)

    @work
    async def on_pair_ended(self, message: PairEnded) -> None:
        await self._comparing.ended(message)

    def on_chat_pane_pair_met(self, message: ChatPane.PairMet) -> None:
        self._window.in_order(partial(self._comparing.meet, message.reply))

    def on_pair_pane_voted(self, message: PairPane.Voted) -> None:
        self._window.notice.dismiss()
        self._window.in_order(partial(self._comparing.vote, message.choice))

    def on_transcript_asked(self, message: Transcript.Asked) -> None:
        self._turns.ask(message.action, message.message)

    def action_copy_reply(self) -> None:
        self._pane.action_ask("copy")

    def action_thoughts(self) -> None:
        """Open what the last reply thought, or fold it; also while it is being written."""
        if not self._pane.transcript.fold_thoughts():
            self._window.tell("The last reply has no thoughts to open.", error=True)

    def action_copy_text(self) -> None:
        """What is selected with the mouse, also where the terminal does not copy."""
        text = self.get_selected_text()
        if text is None:
            raise SkipAction
        self._copy_selected(text)

    @work
    async def _copy_selected(self, text: str) -> None:
        await self._turns.copy(text, "What is selected is copied")

    def on_text_area_changed(self) -> None:
        self._prompts.changed()

    @work(exclusive=True, group="ask")
    async def action_look_at_files(self) -> None:
        await self._prompts.look_at_files()

    def on_prompt_editor_wanted(self) -> None:
        self._prompts.write_outside()

    def on_suggestions_taken(self, message: Suggestions.Taken) -> None:
        self._prompts.completion.take(message.suggestion)

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

    # Chats

    def on_chat_list_picked(self, message: ChatList.Picked) -> None:
        if self.size.width < LIST_FROM_COLUMNS:
            self._list_wanted = None
            self._arrange()
        self._pane.prompt.focus()
        unsent = self._window.leave_for(message.chat_id)
        self._window.in_order(partial(self._chats.open, message.chat_id, unsent))

    def action_new_chat(self) -> None:
        self._window.in_order(partial(self._chats.begin_new, self._window.leave_for(None)))

    @work(exclusive=True, group="ask")
    async def action_search(self, query: str = "") -> None:
        hit = await self._window.ask(Search(self._chats.search, one_line(query)))
        if hit is not None:
            unsent = self._window.leave_for(hit.chat_id)
            self._window.in_order(partial(self._chats.open_found, hit, unsent))

    def action_on_chat(self, act: str) -> None:
        """Do something with a chat: the one under the list's cursor while the user is in the
        list, else the one that lies open when what was asked for before has been done."""
        window = self._window
        in_list = self._list.under_cursor if self._list.has_focus else None
        is_open = in_list in (None, self._session.active.id)
        is_there = self._session.active.id is not None or window.in_turn
        leaves = act == "delete" and is_open and is_there
        unsent = window.leave_for(None) if leaves else Unsent()

        async def run() -> None:
            chat_id = in_list or self._session.active.id
            if act in ASKING:
                window.begin(partial(self._ask_on_chat, act, chat_id), "ask")
            elif act == "delete":
                await self._chats.delete(chat_id, unsent)
            else:
                await ON_CHAT[act](window, chat_id)

        window.in_order(run)

    async def _ask_on_chat(self, act: str, chat_id: str | None) -> None:
        if act in ON_CHAT:
            await ON_CHAT[act](self._window, chat_id)
        else:
            await self._chats.ask_to_delete(chat_id)

    def action_undo_delete(self) -> None:
        self._window.in_order(partial(self._chats.undo, self._window.leave_for(None)))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Ctrl+Z is the prompt's own while there is something in it to be undone."""
        if action == "undo_delete":
            return self._chats.can_undo and not self._pane.prompt.text
        return True

    # Options, models, settings

    @work(exclusive=True, group="ask")
    async def action_models(self) -> None:
        loaded = self._window.loader.loaded
        screen = ModelsScreen(self._models.pulls, loaded.name if loaded else None)
        chosen = await self._window.ask(screen)
        if chosen is not None:
            self._window.in_order(partial(self._models.use, chosen))

    @work(exclusive=True, group="ask")
    async def action_learn(self) -> None:
        await self._learn(self._learner())

    async def _learn(self, learner: Learner) -> None:
        with self._window.telling():
            session, settings = self._session, self._session.settings
            screen = LearnScreen(
                session.store, session.home, learner, settings, self.preferences.take
            )
            learning = await self._window.ask(screen)
            if learning is not None:
                self.training.begun()
                shows = f"{key_of(self.app, 'window.training')} shows how it goes."
                self._window.tell(f"{learning.sentence} {shows}", stays=True)
                self.action_training()

    def _learner(self) -> Learner:
        """Who learns: the model that answers in this chat."""
        now, loaded, chats = self._session.options(), self._window.loader.loaded, self._list.chats
        return Learner(
            (loaded.path if loaded is not None else "")
            or self._window.loader.model_here
            or now.model,
            loaded.adapter.name if loaded is not None and loaded.adapter else None,
            now.template,
            tuple(sorted({tag for chat in chats for tag in chat.tags})),
            tuple(sorted({chat.model for chat in chats if chat.model})),
        )

    def on_pull_ended(self, message: PullEnded) -> None:
        self._models.tell_end(message.pull)

    @work(exclusive=True, group="ask")
    async def action_versions(self) -> None:
        from openchat_local.app.tui.screens.versions import VersionsScreen

        wanted = await self._window.ask(VersionsScreen(self._versions))
        if wanted is not None:
            await self._go_on(wanted)

    async def _go_on(self, wanted: Wanted) -> None:
        """Do what was asked for over the versions."""
        match wanted.act:
            case "train":
                await self._learn(replace(self._learner(), start_from=wanted.name))
            case "compare":
                command = next((each for each in self._commands if each.name == "compare"), None)
                if command is not None:
                    await command.run(self._versions.to_compare(wanted.name))

    @work(exclusive=True, group="ask")
    async def action_arena(self) -> None:
        from openchat_local.app.tui.screens.arena import ArenaScreen

        await self._window.ask(ArenaScreen(self._versions))

    def action_roll_back(self) -> None:
        self._window.in_order(self._versions.roll_back)

    def on_judging_ended(self, message: JudgingEnded) -> None:
        self._versions.tell_end(message.judging)

    def action_toggle_panel(self) -> None:
        """Show the options and go there, or go back to the prompt."""
        self._panel.toggle()
        self._window.show_options()
        (self._panel if self._panel.shown else self._pane.prompt).focus()
        self._arrange()

    @work(exclusive=True, group="ask")
    async def on_options_panel_wanted(self, message: OptionsPanel.Wanted) -> None:
        await option_rows.change(self._window, message.command, self._commands)

    def action_training(self) -> None:
        self.app.push_screen(TrainingScreen(self.training, self._session.home))

    def action_settings(self) -> None:
        self.app.push_screen(SettingsScreen(self._session.settings, self.preferences.take))

    def action_help(self) -> None:
        if isinstance(self.app, KeyedApp):
            slash = [(each.usage, each.summary) for each in self._commands]
            self.app.push_screen(Help(self.app.all_commands(), slash))

    # The window

    def on_resize(self, event: events.Resize) -> None:
        self._arrange()

    def _arrange(self) -> None:
        wanted = self._list_wanted
        width = self.app.size.width  # the screen's own is not known before the first layout
        self._panel.fit(width)
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
        elif self._pane.pair.shown and not self._pane.transcript.has_focus:
            self._pane.pair.page(direction)
        else:
            self._pane.transcript.page(direction)

    def action_stop(self) -> None:
        self._pane.notice.dismiss()
        self._pane.leave()

    def interrupt(self) -> None:
        """Ctrl+C, with nothing selected to be copied."""
        if not self._pane.stop():
            self._window.tell(f"{key_of(self.app, 'window.quit')} quits.")

    def keys_changed(self) -> None:
        """Other keys are in force: name those that the prompt names."""
        self._pane.prompt.name_keys()

    async def may_shut_down(self) -> bool:
        """False while the user is asked about a run that learns, and while words wait for the
        store to open: the window then closes by itself once they are on disk, and when it is
        asked again."""
        if not self.training.may_close():
            return False
        await self._pane.prompt.settled()
        words = bool(self._pane.prompt.text.strip()) or self._window.in_turn
        if not words or self._leaving or not self._session.is_opening:
            return True
        self._leaving = True
        self._window.tell(
            "The chats are still being opened; your prompt is kept as soon as they are. "
            f"{key_of(self.app, 'window.quit')} again quits without it."
        )
        self._leave_when_open()
        return False

    @work
    async def _leave_when_open(self) -> None:
        await self._session.opened()
        await self.app.run_action("quit")

    async def shut_down(self) -> None:
        """Put everything away before the window closes."""
        await self._pane.prompt.settled()
        await self._chats.put_everything_away()
        self._turns.forget_copy()
        self._prompts.put_away()
        self._models.put_away()
        self._comparing.put_away()
        self._versions.stop_judging()
        with self._window.telling():
            await self._session.close()
