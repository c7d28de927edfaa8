"""One of a few values, chosen from a list: nothing changes before Enter, or after Esc."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from openchat_local.app.printable import one_line, printable


class ChooseOne(ModalScreen[str | None]):
    """Gives the chosen value, or None."""

    DEFAULT_CSS = """
    ChooseOne { align: center middle; }
    ChooseOne > Vertical {
        width: 72;
        max-width: 96%;
        height: auto;
        max-height: 80%;
        padding: 0 2;
        border: round $primary;
        background: $surface;
    }
    ChooseOne OptionList {
        height: auto;
        max-height: 20;
        border: none;
        padding: 0;
        background: $surface;
        & > .option-list--option-highlighted { background: $foreground 12%; text-style: none; }
        &:focus { border: none; }
    }
    ChooseOne Static { color: $foreground 60%; margin-top: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Change nothing")]

    def __init__(self, title: str, values: Sequence[str], current: str, hint: str) -> None:
        super().__init__()
        self._title = title
        self._values = values
        self._current = current
        self._hint = hint

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = Content(one_line(self._title))
            box.border_subtitle = "Enter chooses · Esc changes nothing"
            yield OptionList(*(Option(self._line(value)) for value in self._values), markup=False)
            yield Static(Content(printable(self._hint)), markup=False)

    def on_mount(self) -> None:
        if self._current in self._values:
            self.query_one(OptionList).highlighted = self._values.index(self._current)

    def _line(self, value: str) -> Content:
        return Content(f"{'•' if value == self._current else ' '} {one_line(value)}")

    def on_option_list_option_selected(self, message: OptionList.OptionSelected) -> None:
        message.stop()
        self.dismiss(self._values[message.option_index])
