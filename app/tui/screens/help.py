"""Every key and every command, from the bindings in force; written into, it searches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, zip_longest
from typing import ClassVar

from rich.cells import set_cell_size
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from openchat_local.app.printable import one_line
from openchat_local.app.tui.key_lines import KeyLine, key_lines
from openchat_local.app.tui.keys import Command
from openchat_local.app.tui.markdown.rows import Line, wrap

KEY_CELLS = 28
WIDTH = 96
INDENT = "  "


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
        Binding("tab", "show_names", "Show the names for the settings file", priority=True),
        Binding("up", "scroll(-1)", "Up", priority=True),
        Binding("down", "scroll(1)", "Down", priority=True),
        Binding("pageup", "scroll(-12)", "Page up", priority=True),
        Binding("pagedown", "scroll(12)", "Page down", priority=True),
    ]

    def __init__(self, commands: Iterable[Command], slash: Iterable[tuple[str, str]] = ()) -> None:
        """`slash` are the commands that are written into the prompt, with what they do."""
        super().__init__()
        self._lines = key_lines(commands, slash)
        self._names = False

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = "Keys"
            box.border_subtitle = "Tab names for the settings file · Esc closes"
            yield Input(placeholder="Search the keys…", compact=True)
            with VerticalScroll(can_focus=False):
                yield Static(markup=False)

    def on_input_changed(self, event: Input.Changed) -> None:
        self._show()
        self.query_one(VerticalScroll).scroll_home(animate=False)

    def on_resize(self) -> None:
        self._show()

    def action_show_names(self) -> None:
        self._names = not self._names
        self._show()

    def action_scroll(self, rows: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=rows, animate=False)

    def _show(self) -> None:
        words = self.query_one(Input).value.casefold().split()
        lines = [
            line for line in self._lines if all(word in " ".join(line).casefold() for word in words)
        ]
        room = min(self.app.size.width, WIDTH) - 8  # border, padding, scroll bar
        found = page(lines, room, names=self._names) if lines else Content("No key does that.")
        self.query_one(Static).update(found)


def page(lines: Sequence[KeyLine], width: int, *, names: bool = False) -> Content:
    """The lines under the headings of their groups, no row wider than `width` cells; with the
    `names` that the settings file has for them."""
    parts: list[tuple[str, str]] = []
    for group, members in groupby(lines, key=lambda line: line.group):
        parts.append((f"{group}\n", "bold $text-primary"))
        for line in members:
            parts += [(f"{row}\n", "") for row in _rows(line, width)]
            if names and line.name:
                parts.append((f"{' ' * KEY_CELLS}{line.name}\n", "dim"))
        parts.append(("\n", ""))
    return Content.assemble(*parts)


def _rows(line: KeyLine, width: int) -> Iterator[str]:
    """Keys on the left and what they do on the right, each in as many rows as it takes."""
    keys = _cut(line.keys, KEY_CELLS - len(INDENT) - 1)
    meanings = _cut(line.meaning, max(8, width - KEY_CELLS))
    for key, meaning in zip_longest(keys, meanings, fillvalue=""):
        yield set_cell_size(f"{INDENT}{key}", KEY_CELLS) + meaning


def _cut(text: str, cells: int) -> list[str]:
    rows = wrap(Line(((one_line(text), ""),)), cells)
    return ["".join(piece for piece, _ in row).rstrip() for row in rows]
