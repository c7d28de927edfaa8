"""The settings of the program, one a row, changed in the settings file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from rich.cells import set_cell_size
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from openchat_local.app.paths import config_path
from openchat_local.app.printable import one_line, printable
from openchat_local.app.settings.edit import Setting, all_settings, change_setting, overridden
from openchat_local.app.settings.model import load_settings_with_sources
from openchat_local.app.tui.questions.choose_one import ChooseOne
from openchat_local.app.tui.questions.line import AskLine
from openchat_local.app.tui.widgets.notice import ERROR
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.settings.model import Settings
    from openchat_local.app.settings.words import Key

NAME_CELLS = 30
VALUE_CELLS = 30
THEME = ("tui", "theme")


class SettingsScreen(ModalScreen[None]):
    """Enter changes a row. What is changed is in the file at once, comments kept."""

    DEFAULT_CSS = """
    SettingsScreen { align: center middle; }
    SettingsScreen > Vertical {
        width: 96;
        max-width: 100%;
        height: 100%;
        padding: 0 1;
        border: round $primary;
        background: $surface;
    }
    SettingsScreen OptionList {
        height: 1fr;
        border: none;
        padding: 0;
        background: $surface;
        scrollbar-size-vertical: 1;
        & > .option-list--option-highlighted { background: $foreground 12%; text-style: none; }
        &:focus { border: none; }
    }
    SettingsScreen Static { height: auto; padding: 0 1; color: $foreground 70%; }
    SettingsScreen Static.-error { color: $text-error; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Close"),
        Binding("delete", "change('')", "Back to the default"),
    ]

    def __init__(self, settings: Settings, changed: Callable[[Settings], None]) -> None:
        """`changed` gets the settings after each change."""
        super().__init__()
        self._settings = settings
        self._changed = changed
        self._rows: list[Setting] = []
        self._about: Key | None = None

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = "Settings"
            box.border_subtitle = "Enter changes · Del default · Esc closes"
            yield OptionList(markup=False)
            yield Static(id="about", markup=False)
            yield Static(
                Content(f"Keys and presets are in the file: {printable(str(config_path()))}"),
                markup=False,
            )

    def on_mount(self) -> None:
        self._fill()
        self.query_one(OptionList).focus()

    def _fill(self) -> None:
        try:
            _, sources = load_settings_with_sources()
        except OpenChatError as problem:
            sources = {}
            self._tell(str(problem), error=True)
        self._rows = all_settings(self._settings, sources)
        options = self.query_one(OptionList)
        highlighted = options.highlighted or 0
        options.set_options(Option(_line(row)) for row in self._rows)
        options.highlighted = highlighted

    def _tell(self, sentence: str, *, error: bool = False) -> None:
        about = self.query_one("#about", Static)
        about.set_class(error, "-error")
        about.update(Content(f"{ERROR if error else ''}{printable(sentence)}"))

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        row = self._rows[event.option_index]
        if row.key == self._about:
            return  # filled anew: what became of the change stays to be read
        self._about = row.key
        when = "" if row.at_once else " Holds from the next start on."
        self._tell(f"{row.description}{when}")

    @work(exclusive=True)
    async def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        row = self._rows[event.option_index]
        if row.key == THEME:
            self.app.search_themes()
            return
        now = _text(row.value)
        if row.choices:
            values = [_text(choice) for choice in row.choices]
            screen: Screen[str | None] = ChooseOne(row.name, values, now, row.description)
        else:
            screen = AskLine(row.name, now, row.description)
        text = await self.app.push_screen_wait(screen)
        if text is not None and text != now:
            await self._change(row, text)

    @work(exclusive=True)
    async def action_change(self, text: str) -> None:
        highlighted = self.query_one(OptionList).highlighted
        if highlighted is not None:
            await self._change(self._rows[highlighted], text)

    async def _change(self, row: Setting, text: str) -> None:
        try:
            settings = await asyncio.to_thread(change_setting, self._settings, row.key, text)
        except OpenChatError as problem:
            self._tell(str(problem), error=True)
            return
        self.show(settings)
        self._changed(settings)
        now = next(each for each in self._rows if each.key == row.key)
        sentence = f"{row.name} is {_text(now.value) or 'unset'}"
        sentence += "." if row.at_once else " from the next start on."
        if await asyncio.to_thread(overridden, row.key, now.value):
            sentence += " But a variable of the environment sets it too, and comes first."
        self._tell(sentence)

    def show(self, settings: Settings) -> None:
        """Show these settings, if they are not on the screen already."""
        if settings is not self._settings:
            self._settings = settings
            self._fill()


def _line(row: Setting) -> Content:
    value = one_line(_text(row.value)) or "–"
    shown = f"{set_cell_size(row.name, NAME_CELLS)} {set_cell_size(value, VALUE_CELLS)} "
    source = "" if row.source == "default" else row.source
    return Content.assemble((shown, "bold" if source else ""), (source, "dim"))


def _text(value: object) -> str:
    """A value as it is written in the file, without quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
