"""A text to be written or changed: what a reply should have said, a system prompt."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from openchat_local.app.tui.widgets.plain_area import PlainArea

WORDS = "What the reply should have said · Ctrl+S saves it as a new version · Esc gives up"


class EditReply(ModalScreen[str | None]):
    """Gives the new text, or None."""

    DEFAULT_CSS = """
    EditReply { align: center middle; }
    EditReply > Vertical {
        width: 96%;
        height: 92%;
        max-width: 120;
        border: round $primary;
        background: $background;
        padding: 0 1;
    }
    EditReply Static { height: auto; color: $text-primary; }
    EditReply PlainArea { height: 1fr; border: none; background: $background; padding: 0; }
    EditReply PlainArea:focus { border: none; background-tint: transparent; }
    EditReply PlainArea .text-area--cursor-line { background: transparent; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "save", "Save", priority=True),
        Binding("escape", "give_up", "Give up", priority=True),
    ]

    def __init__(self, text: str, words: str = WORDS) -> None:
        """`words` say what is written here, and how to leave."""
        super().__init__()
        self._text = text
        self._words = words

    def compose(self) -> ComposeResult:
        area = PlainArea(
            self._text,
            soft_wrap=True,
            show_line_numbers=False,
            tab_behavior="indent",
            highlight_cursor_line=False,
        )
        area.cursor_blink = False
        with Vertical():
            yield Static(Content(self._words), markup=False)
            yield area

    def action_save(self) -> None:
        self.dismiss(self.query_one(PlainArea).text)

    def action_give_up(self) -> None:
        self.dismiss(None)
