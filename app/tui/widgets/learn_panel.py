"""What is chosen about learning, a row each, and below it how that stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from openchat_local.app.printable import one_line, printable
from openchat_local.app.tui.widgets.notice import ERROR

WIDTH = 42
_LABEL_CELLS = 12
_VALUE_CELLS = WIDTH - 4 - _LABEL_CELLS
BEGIN = "begin"
"""The key of the row that begins it."""

Said = tuple[str, bool]
"""A sentence, and whether it says what is amiss."""


class PanelRow(NamedTuple):
    """A row: what is asked for under `key`, how it is called, and what it is now."""

    key: str
    label: str
    value: str


class LearnPanel(Vertical):
    """Its list says which row is meant; it changes nothing itself."""

    DEFAULT_CSS = f"""
    LearnPanel {{
        width: {WIDTH};
        height: 1fr;
        padding: 0 0 0 1;
        border-left: vkey $foreground 20%;
    }}
    LearnPanel OptionList {{
        height: 1fr;
        max-height: 14;
        border: none;
        padding: 0;
        background: $surface;
        scrollbar-size-vertical: 1;
        & > .option-list--option-highlighted {{ background: $foreground 12%; text-style: none; }}
        &:focus {{ border: none; }}
    }}
    LearnPanel VerticalScroll {{
        height: auto;
        max-height: 50%;
        margin-top: 1;
        scrollbar-size-vertical: 1;
    }}
    LearnPanel Static {{ height: auto; }}
    """

    def __init__(self) -> None:
        super().__init__()
        self._rows: Sequence[PanelRow] = ()

    def compose(self) -> ComposeResult:
        yield OptionList(markup=False)
        with VerticalScroll():
            yield Static(markup=False)

    def show(self, rows: Sequence[PanelRow], said: Sequence[Said]) -> None:
        """Show these choices, and say this below them."""
        if rows != self._rows:
            self._rows = list(rows)
            options = self.query_one(OptionList)
            highlighted = options.highlighted
            options.set_options(Option(_line(row), id=row.key) for row in rows)
            options.highlighted = highlighted or 0
        self.query_one(Static).update(_paragraphs(said))

    @property
    def text(self) -> str:
        """What is said below the choices."""
        return str(self.query_one(Static).content)


def _paragraphs(said: Sequence[Said]) -> Content:
    parts: list[tuple[str, str]] = []
    for sentence, amiss in said:
        text = f"{ERROR if amiss else ''}{printable(sentence)}\n\n"
        parts.append((text, "$text-warning" if amiss else ""))
    return Content.assemble(*parts).rstrip()


def _line(row: PanelRow) -> Content:
    if row.key == BEGIN:
        return Content.styled(f"▶ {row.label}", "bold $text-success")
    value = one_line(row.value)
    if cell_len(value) > _VALUE_CELLS:
        value = set_cell_size(value, _VALUE_CELLS - 1) + "…"
    return Content(f"{row.label.ljust(_LABEL_CELLS)}{value}")
