"""The chats that can be learned from, a row each: which are taken, and what is in them.

One widget that paints the rows on the screen and no others: ten thousand chats are as quickly
there as ten.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from openchat_local.app.printable import one_line

if TYPE_CHECKING:
    from openchat_local.app.learning.selecting import Offer

TAKEN, LEFT = "✓", "·"
LEAST_COLUMN, MOST_COLUMN = 4, 12
NARROW_FROM = 50
"""Cells of the list from which on the classes have their whole names."""
TITLE_CHARACTERS = 120


class OfferList(ScrollView, can_focus=True):
    """Says which chat is meant and which are not wanted; it reads and writes no chat."""

    DEFAULT_CSS = """
    OfferList {
        height: 1fr;
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-size-vertical: 1;
        background: $surface;
        color: $foreground;
    }
    OfferList > .offer-list--cursor { background: $foreground 12%; }
    OfferList > .offer-list--dim { color: $foreground 45%; }
    OfferList:focus > .offer-list--cursor { background: $foreground 20%; text-style: bold; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "offer-list--cursor",
        "offer-list--dim",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "step(-1)", "Chat above", show=False),
        Binding("down", "step(1)", "Chat below", show=False),
        Binding("pageup", "leap(-1)", "A page up", show=False),
        Binding("pagedown", "leap(1)", "A page down", show=False),
        Binding("home", "end(-1)", "First chat", show=False),
        Binding("end", "end(1)", "Last chat", show=False),
        Binding("space", "take", "Take the chat, or leave it out", id="learn.take"),
        Binding("a", "take_all", "Take all of these chats, or none", id="learn.take-all"),
        Binding("enter", "start", "Begin to learn", id="learn.start"),
    ]

    class Pointed(Message):
        """Another chat is under the cursor; None where there is none."""

        def __init__(self, chat_id: str | None) -> None:
            super().__init__()
            self.chat_id = chat_id

    class Toggled(Message):
        """These chats are to be taken, or left out."""

        def __init__(self, chat_ids: Collection[str], *, taken: bool) -> None:
            super().__init__()
            self.chat_ids = chat_ids
            self.taken = taken

    class StartWanted(Message):
        """The user is done choosing."""

    def __init__(self) -> None:
        super().__init__()
        self._offers: Sequence[Offer] = ()
        self._names: Sequence[str] = ()
        self._excluded: Collection[str] = frozenset()
        self._cursor = 0

    def show(
        self, offers: Sequence[Offer], classes: Sequence[str], excluded: Collection[str]
    ) -> None:
        """Show these chats with their counts of these classes. The cursor stays on its chat
        where that is still there."""
        meant = self.under_cursor
        self._offers, self._names, self._excluded = offers, classes, excluded
        rows = (n for n, offer in enumerate(offers) if offer.chat_id == meant)
        self._cursor = next(rows, min(self._cursor, max(0, len(offers) - 1)))
        self.virtual_size = Size(self.size.width, len(offers))
        self._reveal()
        self.refresh()
        if self.under_cursor != meant:
            self.post_message(self.Pointed(self.under_cursor))

    def mark(self, excluded: Collection[str]) -> None:
        """Other chats are left out."""
        self._excluded = excluded
        self.refresh()

    @property
    def offers(self) -> Sequence[Offer]:
        return self._offers

    @property
    def under_cursor(self) -> str | None:
        """The chat under the cursor."""
        return self._offers[self._cursor].chat_id if self._offers else None

    # What is painted

    @property
    def columns(self) -> list[int]:
        """The cells of each class's column."""
        if self.size.width < NARROW_FROM:
            return [LEAST_COLUMN] * len(self._names)
        return [max(LEAST_COLUMN, min(MOST_COLUMN, cell_len(name) + 1)) for name in self._names]

    def heading(self) -> str:
        """What stands above the rows."""
        columns = zip(self._names, self.columns, strict=True)
        names = "".join(
            set_cell_size(one_line(name), min(cells - 1, cell_len(name))).rjust(cells)
            for name, cells in columns
        )
        return set_cell_size("  Chat", self._title_cells) + names

    @property
    def _title_cells(self) -> int:
        return max(8, self.size.width - 1 - sum(self.columns))

    def render_line(self, y: int) -> Strip:
        row = self.scroll_offset.y + y
        width = self.size.width
        plain = self.rich_style
        if row >= len(self._offers):
            return Strip.blank(width, plain)
        offer = self._offers[row]
        out = offer.chat_id in self._excluded
        style = self._look("cursor") if row == self._cursor else plain
        if out:
            style += Style(color=self._look("dim").color)
        title = one_line(offer.title[:TITLE_CHARACTERS]).strip() or "New chat"
        text = f"{LEFT if out else TAKEN} {_fitted(title, self._title_cells - 3)}"
        segments = [Segment(set_cell_size(text, self._title_cells), style)]
        for name, cells in zip(self._names, self.columns, strict=True):
            count = offer.counts.get(name, 0)
            shown = f"{count:,}" if count else "·"
            segments.append(Segment(shown.rjust(cells), style))
        return Strip(segments).adjust_cell_length(width, style)

    def _look(self, name: str) -> Style:
        return self.get_component_rich_style(f"offer-list--{name}")

    # What the keys do

    def action_step(self, rows: int) -> None:
        self._go_to(self._cursor + rows)

    def action_leap(self, direction: int) -> None:
        self._go_to(self._cursor + direction * max(1, self.size.height - 1))

    def action_end(self, direction: int) -> None:
        self._go_to(0 if direction < 0 else len(self._offers) - 1)

    def action_take(self) -> None:
        chat_id = self.under_cursor
        if chat_id is not None:
            taken = chat_id in self._excluded
            self.post_message(self.Toggled((chat_id,), taken=taken))
            self.action_step(1)

    def action_take_all(self) -> None:
        ids = [offer.chat_id for offer in self._offers]
        taken = any(chat_id in self._excluded for chat_id in ids)
        self.post_message(self.Toggled(ids, taken=taken))

    def action_start(self) -> None:
        self.post_message(self.StartWanted())

    def on_click(self, event: events.Click) -> None:
        row = self.scroll_offset.y + event.y
        if row < len(self._offers):
            self._go_to(row)
            if event.x < 2:
                chat_id = self._offers[row].chat_id
                taken = chat_id in self._excluded
                self.post_message(self.Toggled((chat_id,), taken=taken))

    def on_resize(self) -> None:
        self.virtual_size = Size(self.size.width, len(self._offers))
        self._reveal()

    def _go_to(self, row: int) -> None:
        row = max(0, min(row, len(self._offers) - 1))
        if row != self._cursor:
            self._cursor = row
            self._reveal()
            self.refresh()
            self.post_message(self.Pointed(self.under_cursor))

    def _reveal(self) -> None:
        self.scroll_to_region(Region(0, self._cursor, 1, 1), animate=False, force=True)


def _fitted(text: str, cells: int) -> str:
    return (
        text if cell_len(text) <= cells else set_cell_size(text, max(0, cells - 1)).rstrip() + "…"
    )
