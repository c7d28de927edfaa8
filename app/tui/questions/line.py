"""A line to be written or changed: a title, tags, a value."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from openchat_local.app.printable import one_line, printable


class AskLine(ModalScreen[str | None]):
    """Gives the line for Enter, None for Esc. What stands there is selected: writing replaces
    it, an arrow goes into it."""

    DEFAULT_CSS = """
    AskLine { align: center middle; }
    AskLine > Vertical {
        width: 72;
        max-width: 96%;
        height: auto;
        padding: 0 2;
        border: round $primary;
        background: $surface;
    }
    AskLine Input { border: none; height: 1; padding: 0; background: $boost; }
    AskLine Input:focus { border: none; }
    AskLine Static { color: $foreground 60%; margin-top: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Give up")]

    def __init__(self, title: str, value: str, hint: str) -> None:
        super().__init__()
        self._title = title
        # A control character could be neither seen nor typed here.
        self._value = one_line(value)
        self._hint = hint

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = Content(one_line(self._title))
            yield Input(self._value, compact=True)
            yield Static(Content(printable(self._hint)), markup=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.dismiss(event.value.strip())
