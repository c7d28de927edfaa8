"""Asked before the window closes while a run learns."""

from __future__ import annotations

from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

Closing = Literal["go on", "stop", "stay"]


class LeaveLearning(ModalScreen[Closing]):
    """Gives what is to become of the run; "stay" keeps the window open. Asked to close a second
    time, it lets the run go on: nothing is lost by that."""

    DEFAULT_CSS = """
    LeaveLearning { align: center middle; }
    LeaveLearning > Static {
        width: auto;
        max-width: 90%;
        height: auto;
        padding: 1 3;
        border: round $primary;
        background: $surface;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("g", "answer('go on')", "Close, and let it learn on"),
        Binding("ctrl+c", "answer('go on')", "Close, and let it learn on", priority=True),
        Binding("s", "answer('stop')", "Close; it stops, and what was learned is kept"),
        Binding("escape", "answer('stay')", "Do not close"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        choices = (
            "g    let it go on without the window",
            "s    stop it, and keep what it has learned",
            "Esc  do not close",
        )
        yield Static(Content("\n".join((self._question, "", *choices))), markup=False)

    def action_answer(self, answer: Closing) -> None:
        self.dismiss(answer)
