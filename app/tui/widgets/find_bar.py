"""A line to type into, and how many times its words stand in the chat."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static


class FindInput(Input):
    """Enter and the arrows go from hit to hit, Esc leaves."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,up", "go(-1)", "Hit above", id="find.above"),
        Binding("down", "go(1)", "Hit below", id="find.below"),
        Binding("escape", "leave", "Find nothing any more", show=False),
    ]

    def action_go(self, direction: int) -> None:
        self.post_message(FindBar.Go(direction))

    def action_leave(self) -> None:
        self.post_message(FindBar.Closed())


class FindBar(Horizontal):
    """Hidden until something is to be found."""

    DEFAULT_CSS = """
    FindBar {
        display: none;
        height: 1;
        padding: 0 2;
        background: $surface;
        &.-shown { display: block; }
    }
    FindBar > Static { width: auto; color: $text-primary; }
    FindBar > FindInput, FindBar > FindInput:focus {
        width: 1fr; height: 1; border: none; padding: 0; background: $surface;
    }
    """

    class Go(Message):
        """To the next hit above (-1) or below (1)."""

        def __init__(self, direction: int) -> None:
            super().__init__()
            self.direction = direction

    class Closed(Message):
        """Nothing is to be found any more."""

    class Wanted(Message):
        """These words are to be found."""

        def __init__(self, words: str) -> None:
            super().__init__()
            self.words = words

    def compose(self) -> ComposeResult:
        yield Static("Find: ", markup=False)
        find = FindInput(placeholder="words · ↑ ↓ from hit to hit · Esc closes")
        find.cursor_blink = False
        yield find
        yield Static("", id="count", markup=False)

    @property
    def shown(self) -> bool:
        return self.has_class("-shown")

    @property
    def words(self) -> str:
        return self.query_one(FindInput).value

    def open(self) -> None:
        """Show the line and take the keys."""
        self.add_class("-shown")
        find = self.query_one(FindInput)
        find.action_select_all()
        find.focus()

    def close(self) -> None:
        self.remove_class("-shown")

    def tell(self, words: str) -> None:
        """Say how many hits there are."""
        self.query_one("#count", Static).update(Content(words))

    def on_input_changed(self, message: Input.Changed) -> None:
        message.stop()
        self.post_message(self.Wanted(message.value))

    def on_input_submitted(self, message: Input.Submitted) -> None:
        message.stop()
