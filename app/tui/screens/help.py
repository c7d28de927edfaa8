"""Every key and every command, from the bindings in force; written into, it searches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import ClassVar

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static, TextArea

from openchat_local.app.printable import one_line
from openchat_local.app.tui.keys import Command, key_name

KEY_CELLS = 24
WIDTH = 96

Line = tuple[str, str, str, str]
"""Group, keys or command, what it does, id."""


class Help(ModalScreen[None]):
    """Lines under headings, those that have every word that is written above them."""

    DEFAULT_CSS = """
    Help { align: center middle; }
    Help > Vertical {
        width: 96;
        max-width: 100%;
        height: 100%;
        padding: 0 2;
        border: round $primary;
        background: $surface;
    }
    Help Input { border: none; height: 1; margin: 0 0 1 0; padding: 0; background: $surface; }
    Help Input:focus { border: none; }
    Help VerticalScroll { height: 1fr; scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f1,enter", "dismiss", "Close", priority=True),
        Binding("up", "scroll(-1)", show=False, priority=True),
        Binding("down", "scroll(1)", show=False, priority=True),
        Binding("pageup", "scroll(-12)", show=False, priority=True),
        Binding("pagedown", "scroll(12)", show=False, priority=True),
    ]

    def __init__(self, commands: Iterable[Command], slash: Iterable[tuple[str, str]] = ()) -> None:
        """`slash` are the commands that are written into the prompt, with what they do."""
        super().__init__()
        self._lines = [
            *((each.group, each.key_names, each.description, each.id) for each in commands),
            *(("Written into the prompt", usage, summary, "") for usage, summary in slash),
            *_editing(commands),
        ]

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = "Keys"
            box.border_subtitle = "Esc closes"
            yield Input(placeholder="Search the keys…", compact=True)
            with VerticalScroll(can_focus=False):
                yield Static(markup=False)

    def on_input_changed(self, event: Input.Changed) -> None:
        self._show()
        self.query_one(VerticalScroll).scroll_home(animate=False)

    def on_resize(self) -> None:
        self._show()

    def action_scroll(self, rows: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=rows, animate=False)

    def _show(self) -> None:
        words = self.query_one(Input).value.casefold().split()
        lines = [
            line for line in self._lines if all(word in " ".join(line).casefold() for word in words)
        ]
        room = min(self.app.size.width, WIDTH) - 8  # border, padding, scroll bar
        self.query_one(Static).update(page(lines, room) if lines else Content("No key does that."))


def page(lines: Sequence[Line], width: int) -> Content:
    """The lines under the headings of their groups; ids on the right where there is room."""
    parts: list[tuple[str, str]] = []
    for group, members in groupby(lines, key=lambda line: line[0]):
        parts.append((f"{group}\n", "bold $text-primary"))
        for _, keys, meaning, name in members:
            gap = " " * max(1, KEY_CELLS - cell_len(keys))
            text = one_line(f"  {keys}{gap}{meaning}")
            parts.append((text, ""))
            room = width - cell_len(text) - len(name)
            parts.append((f"{' ' * room}{name}\n" if name and room > 1 else "\n", "dim"))
        parts.append(("\n", ""))
    return Content.assemble(*parts)


def _editing(commands: Iterable[Command]) -> list[Line]:
    """What a text area does by itself, where no key of the window comes before it."""
    taken = {key for command in commands for key in command.keys}
    keys: dict[str, list[str]] = {}
    for binding in Binding.make_bindings(TextArea.BINDINGS):
        if binding.key not in taken:
            keys.setdefault(binding.description, []).append(key_name(binding.key))
    return [("Moving and deleting in the prompt", ", ".join(each), text, "") for text, each in
            keys.items()]  # fmt: skip
