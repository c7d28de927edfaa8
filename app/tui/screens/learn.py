"""What the model learns from: chats are chosen, their rows looked at, and learning is begun."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static

from openchat_local.app.printable import printable
from openchat_local.app.tui.prepared import Amount, Broke, Counted, Looked, Planned, counts_of
from openchat_local.app.tui.preparing import Preparing
from openchat_local.app.tui.screens import learn_words as words
from openchat_local.app.tui.screens.learn_begin import begin, begun_in_words
from openchat_local.app.tui.screens.learn_choices import Offered, ask_for, choices
from openchat_local.app.tui.screens.learn_rules import LearnRules
from openchat_local.app.tui.screens.learn_words import Learner
from openchat_local.app.tui.widgets.learn_panel import BEGIN, LearnPanel, Said
from openchat_local.app.tui.widgets.lesson_text import legend, rows_text
from openchat_local.app.tui.widgets.offer_list import OfferList
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.chats import ChatStore
    from openchat_local.app.learning.selecting import Offers
    from openchat_local.app.learning.starting import Begun, LearningRequest
    from openchat_local.app.settings.model import Settings
    from openchat_local.finetune.run.background import BackgroundRun

THREE_FROM_COLUMNS = 132
"""Chats, rows and choices side by side."""


class Learning(NamedTuple):
    """A run that was begun here, and what to say of it."""

    run: BackgroundRun
    sentence: str


class LearnScreen(ModalScreen["Learning | None"]):
    """Gives the run that was begun, None for Esc."""

    DEFAULT_CSS = """
    LearnScreen { align: center middle; }
    LearnScreen > Vertical {
        width: 100%;
        height: 100%;
        padding: 0 1;
        border: round $primary;
        background: $surface;
    }
    LearnScreen Input { border: none; height: 1; padding: 0 1; background: $boost; }
    LearnScreen Input:focus { border: none; }
    LearnScreen #amounts, LearnScreen #heading { height: auto; color: $text-primary; }
    LearnScreen #amounts { max-height: 3; }
    LearnScreen #body { height: 1fr; }
    LearnScreen #chats { width: 1fr; height: 1fr; }
    LearnScreen #rows {
        width: 1fr; height: 1fr; padding: 0 1;
        border-left: vkey $foreground 20%; scrollbar-size-vertical: 1;
        &:focus { border-left: vkey $primary; }
    }
    LearnScreen #rows > Static { height: auto; }
    LearnScreen.-narrow #rows { display: none; }
    LearnScreen.-narrow.-rows #rows { display: block; }
    LearnScreen.-narrow.-rows #chats { width: 30; }
    LearnScreen.-narrow.-rows LearnPanel { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", "Close, and learn nothing", id="learn.close"),
        Binding("down", "to_list", "From the search to the chats", show=False),
        Binding("f2", "look", "The rows of the chat, as they are trained on", id="learn.rows"),
    ]

    def __init__(
        self,
        store: ChatStore,
        home: Path,
        learner: Learner,
        settings: Settings,
        changed: Callable[[Settings], None],
    ) -> None:
        """`changed` gets the settings when the rules are changed here."""
        super().__init__()
        self._store = store
        self._home = home
        self._learner = learner
        self._settings = settings
        self._changed = changed
        self._offered = Offered(learner.tags, learner.models)
        self._request: LearningRequest | None = None
        self._found: Offers | None = None
        self._preparing: Preparing | None = None
        self._counted: Counted | None = None
        self._planned: Planned | None = None
        self._lacking = ""
        """Why nothing here can train, and what to install."""
        self._told: Said = ("", False)
        self._starting = False

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = "What the model learns from"
            box.border_subtitle = "Enter begins · Space takes or leaves · F2 rows · Tab · Esc"
            yield Input(placeholder="Search: words in the chats…", compact=True)
            yield Static(id="amounts", markup=False)
            with Horizontal(id="body"):
                with Vertical(id="chats"):
                    yield Static(id="heading", markup=False)
                    yield OfferList()
                with VerticalScroll(id="rows"):
                    yield Static(legend(), markup=False)
                    yield Static(id="lessons", markup=False)
                yield LearnPanel()

    @property
    def request(self) -> LearningRequest | None:
        """What is chosen as it stands; None before it is known who would learn."""
        return None if self._preparing is None else self._request

    def on_mount(self) -> None:
        self.query_one(OfferList).focus()
        self._begin_choosing()

    def on_resize(self) -> None:
        """Side by side what has room for it."""
        self.set_class(self.app.size.width < THREE_FROM_COLUMNS, "-narrow")
        self.call_after_refresh(self._show_heading)

    def on_unmount(self) -> None:
        if self._preparing is not None:
            self._preparing.close()

    # What there is

    @work
    async def _begin_choosing(self) -> None:
        """Show the chats, and then see who would learn from them: the first is what one waits
        for."""
        try:
            self._request = words.first_request(self._learner, self._settings)
            await self._find()
            learns = await asyncio.to_thread(words.who_learns, self._learner, self._home)
        except OpenChatError as problem:
            self._say(str(problem), error=True)
            return
        self._offered = replace(self._offered, adapters=learns.adapters)
        self._request = replace(
            self._request, base=learns.base, name=learns.name, start_from=learns.start_from
        )
        self._preparing = Preparing(
            self._store, self._home, learns.base, self._learner.template, self
        )
        self._look_for_backend()
        self._count()

    @work(group="backend")
    async def _look_for_backend(self) -> None:
        self._lacking = await asyncio.to_thread(words.what_is_lacking)
        self._show_panel()

    @work(exclusive=True, group="find")
    async def _find_again(self) -> None:
        await self._find()

    async def _find(self) -> None:
        """Show the chats that are meant now, and have them counted."""
        from openchat_local.app.learning.selecting import offers

        request = self._request
        assert request is not None
        try:
            self._found = await asyncio.to_thread(
                offers, self._store, request.selection, request.rules
            )
        except OpenChatError as problem:
            self._say(str(problem), error=True)
            return
        self._show_offers()
        self._count()

    def _show_offers(self) -> None:
        request, found = self._request, self._found
        if request is None or found is None:
            return
        names = [str(rule.class_name) for rule in request.rules.classes]
        self.query_one(OfferList).show(found.offers, names, request.selection.excluded)
        self._show_heading()

    def _show_heading(self) -> None:
        if self._found is not None:
            self.query_one("#heading", Static).update(Content(self.query_one(OfferList).heading()))

    def _count(self) -> None:
        """What is chosen has changed: what was counted and planned for it no longer holds."""
        request, found, preparing = self._request, self._found, self._preparing
        if request is None or found is None or preparing is None:
            self._show_panel()
            return
        self._counted = self._planned = None
        preparing.no_plan()
        preparing.count(request, found.offers)
        self._show_panel()
        self._look_at(self.query_one(OfferList).under_cursor)

    # What the threads say

    def on_counted(self, message: Counted) -> None:
        request, preparing = self._request, self._preparing
        if request is None or preparing is None or not self._is_meant(message.request):
            return
        self._counted = message
        if message.complete and message.short is None and not self._lacking:
            preparing.plan(request, message.lessons)
        self._show_panel()

    def on_planned(self, message: Planned) -> None:
        if self._is_meant(message.request):
            self._planned = message
            self._show_panel()

    def on_broke(self, message: Broke) -> None:
        raise message.error

    def _is_meant(self, request: LearningRequest) -> bool:
        """Whether this is what is chosen now, whatever it is called."""
        own = self._request
        return own is not None and replace(request, name=own.name) == own

    def on_looked(self, message: Looked) -> None:
        if message.chat_id != self.query_one(OfferList).under_cursor or self._request is None:
            return
        lessons = self.query_one("#lessons", Static)
        highest = max((rule.reward for rule in self._request.rules.classes), default=1.0)
        title = next((lesson.title for lesson, _ in message.rows), "")
        if not message.rows:
            lessons.update(Content(printable(message.problem or words.NO_ROWS)))
        else:
            lessons.update(rows_text(message.rows, highest, title))
        self.query_one("#rows").scroll_home(animate=False)

    def _look_at(self, chat_id: str | None) -> None:
        if chat_id is None or self._request is None or self._preparing is None:
            self.query_one("#lessons", Static).update(Content(""))
        else:
            self._preparing.show(self._request, chat_id)

    # What is shown of it

    def _show_panel(self) -> None:
        request, found = self._request, self._found
        if request is None or found is None:
            return
        counts = counts_of(found.offers, request.selection.excluded)
        amounts: Mapping[str, Amount] = self._counted.amounts if self._counted else {}
        lines = words.amounts(found, request, counts, amounts)
        self.query_one("#amounts", Static).update(Content(lines))
        said = words.standing(found, self._counted, self._planned, self._lacking, self._told)
        self.query_one(LearnPanel).show(list(choices(request, self._offered)), said)

    def _say(self, sentence: str, *, error: bool = False) -> None:
        """A sentence below the choices, until the next one."""
        self._told = sentence, error
        if self._request is None or self._found is None:
            self.query_one("#amounts", Static).update(Content(printable(sentence)))
        self._show_panel()

    # What the user does

    def on_input_changed(self, event: Input.Changed) -> None:
        if self._request is not None:
            selection = replace(self._request.selection, search=event.value.strip())
            self._request = replace(self._request, selection=selection)
            self._find_again()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_to_list()

    def action_to_list(self) -> None:
        self.query_one(OfferList).focus()

    def on_offer_list_pointed(self, message: OfferList.Pointed) -> None:
        self._look_at(message.chat_id)

    def on_offer_list_toggled(self, message: OfferList.Toggled) -> None:
        request = self._request
        if request is None or self._starting:
            return
        excluded = request.selection.excluded
        ids = frozenset(message.chat_ids)
        excluded = excluded - ids if message.taken else excluded | ids
        selection = replace(request.selection, excluded=excluded)
        self._request = replace(request, selection=selection)
        self.query_one(OfferList).mark(excluded)
        self._count()

    @work(exclusive=True, group="ask")
    async def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        key, request = event.option_id, self.request
        if request is None or key is None or self._starting:
            return
        if key == BEGIN:
            self.action_start()
        elif key == "rules":
            await self.app.push_screen_wait(LearnRules(self._settings, self._take_settings))
        else:
            await self._ask(key, request)

    async def _ask(self, key: str, request: LearningRequest) -> None:
        try:
            changed, offered = await ask_for(
                key, request, self._offered, self._home, self.app.push_screen_wait
            )
        except OpenChatError as problem:
            self._say(str(problem), error=True)
            return
        self._told = ("", False)
        self._offered = offered
        # A chat may have been left out while the question stood there.
        self._request = changed
        if changed.selection != request.selection:
            await self._find()
        elif changed is not request and key != "name":
            self._count()
        self._show_panel()

    def _take_settings(self, settings: Settings) -> None:
        """The rules are others now."""
        from openchat_local.app.learning.rules import rules_of

        self._settings = settings
        self._changed(settings)
        if self._request is not None:
            self._request = replace(self._request, rules=rules_of(settings))
            self._find_again()

    def action_look(self) -> None:
        """Where the window is narrow, the rows take the place of the choices, or give it back."""
        rows = self.query_one("#rows")
        if self.has_class("-narrow"):
            self.toggle_class("-rows")
            self.call_after_refresh(self._show_heading)
        shown = rows.display and self.focused is not rows
        (rows if shown else self.query_one(OfferList)).focus()

    def action_close(self) -> None:
        if self._starting:
            self._say("It is being begun: a moment.")
        elif self.has_class("-rows"):
            self.action_look()
        else:
            self.dismiss(None)

    def on_offer_list_start_wanted(self) -> None:
        self.action_start()

    def action_start(self) -> None:
        """Begin, once: a second Enter while that is under way does nothing."""
        if not self._starting and self.request is not None and self._found is not None:
            self._starting = True
            self._start(self.request, self._found)

    @work(group="start")
    async def _start(self, request: LearningRequest, found: Offers) -> None:
        try:
            begun = await self._begun(request, found)
        except OpenChatError as problem:
            self._say(str(problem), error=True)
            self._count()  # its plan was given up
        else:
            if begun is not None:
                self.dismiss(Learning(begun.run, begun_in_words(begun, self._counted)))
            else:
                self._count()
        finally:
            self._starting = False

    async def _begun(self, request: LearningRequest, found: Offers) -> Begun | None:
        """The run, None where the user thought better of it. Raises OpenChatError."""
        if self._lacking and not await self._install():
            return None
        excluded = request.selection.excluded
        taken = [offer.chat_id for offer in found.offers if offer.chat_id not in excluded]
        if self._preparing is not None:
            self._preparing.no_plan()
        return await begin(
            self._store,
            self._home,
            request.of_chats(taken),
            self._counted,
            self._planned,
            self.app.push_screen_wait,
        )

    async def _install(self) -> bool:
        """Offer to install what trains; whether something can train now."""
        from openchat_local.app.tui.screens.learn_install import LearnInstall

        installed = await self.app.push_screen_wait(LearnInstall())
        self._lacking = await asyncio.to_thread(words.what_is_lacking)
        if installed and not self._lacking:
            self._count()
        self._show_panel()
        return bool(installed) and not self._lacking
