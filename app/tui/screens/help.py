"""The keys, on one page."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

KEYS = (
    ("Enter", "send the prompt"),
    ("Ctrl+J", "begin a new line"),
    ("Esc", "stop the reply and keep what came"),
    ("Enter, no prompt", "answer a prompt that has no reply"),
    ("", ""),
    ("Ctrl+N", "new chat"),
    ("Ctrl+B", "show or hide the list of chats"),
    ("Tab", "list, chat, prompt in turn; Enter opens"),
    ("Ctrl+D", "delete the chat for good"),
    ("", ""),
    ("PgUp, PgDn", "scroll the chat"),
    ("F3", "copy the last reply"),
    ("/adapter NAME", "answer with this adapter; none for none"),
    ("Ctrl+C", "copy what is selected with the mouse"),
    ("Ctrl+Q", "quit; an unsent prompt is kept"),
)


class Help(ModalScreen[None]):
    """Any of the usual keys closes it."""

    DEFAULT_CSS = """
    Help { align: center middle; }
    Help > Static {
        width: auto;
        max-width: 95%;
        height: auto;
        padding: 1 3;
        border: round $primary;
        background: $surface;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f1,enter,q,space", "dismiss", "Close"),
    ]

    def compose(self) -> ComposeResult:
        lines = [f"{key:<17} {meaning}" for key, meaning in KEYS]
        yield Static(Content("\n".join(lines)), markup=False)
