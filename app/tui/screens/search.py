"""Searching all chats while one types, and going to what was found."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len, set_cell_size
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from openchat_local.app.printable import one_line, printable
from openchat_local.app.tui.dates import day_and_time
from openchat_local.app.tui.session import FOUND
from openchat_local.app.tui.widgets.chat_list import PRIVATE
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.chats import SearchHit

ROLES = {"user": "you", "assistant": "reply", "system": "system"}

Find = Callable[[str], Awaitable["Sequence[SearchHit]"]]
"""What a query finds; everything that there is for an empty one."""


class Search(ModalScreen["SearchHit | None"]):
    """Gives the hit that was picked, None for Esc."""

    DEFAULT_CSS = """
    Search { align: center top; }
    Search > Vertical {
        width: 100;
        max-width: 100%;
        height: 100%;
        padding: 0 1;
        border: round $primary;
        background: $surface;
    }
    Search Input { border: none; height: 1; padding: 0 1; background: $boost; }
    Search Input:focus { border: none; }
    Search Static { height: 1; padding: 0 1; color: $foreground 60%; }
    Search OptionList {
        height: 1fr;
        border: none;
        padding: 0;
        background: $surface;
        scrollbar-size-vertical: 1;
        & > .option-list--option-highlighted { background: $foreground 12%; text-style: none; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Give up"),
        Binding("up", "move('cursor_up')", "Up", show=False, priority=True),
        Binding("down", "move('cursor_down')", "Down", show=False, priority=True),
        Binding("pageup", "move('page_up')", "Page up", show=False, priority=True),
        Binding("pagedown", "move('page_down')", "Page down", show=False, priority=True),
    ]

    def __init__(self, find: Find, query: str = "") -> None:
        super().__init__()
        self._find = find
        self._query = query
        self._hits: Sequence[SearchHit] = ()
        self._found_for: str | None = None
        """The words that the hits are those of."""
        self._picks_first = False
        """Enter came before what the words find."""

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = "Search all chats"
            box.border_subtitle = "Enter opens · Esc closes"
            yield Input(self._query, placeholder="Words, or #tag…", compact=True)
            yield Static(markup=False)
            yield OptionList(markup=False)

    def on_mount(self) -> None:
        self.query_one(OptionList).can_focus = False
        self._search(self._query)

    def on_input_changed(self, event: Input.Changed) -> None:
        self._picks_first = False
        self._search(event.value)

    # Exclusive: what the newest words find is shown, and nothing after it.
    @work(exclusive=True)
    async def _search(self, query: str) -> None:
        summary = self.query_one(Static)
        try:
            hits = await self._find(query)
        except OpenChatError as problem:
            hits = ()
            summary.update(Content(printable(str(problem))))
        else:
            summary.update(Content(_summary(query, len(hits))))
        self._hits, self._found_for = hits, query
        options = self.query_one(OptionList)
        options.set_options(Option(line) for line in self._lines())
        options.highlighted = 0 if hits else None
        if self._picks_first:
            self._picks_first = False
            self._pick(options.highlighted)

    def _lines(self) -> list[Content]:
        width, now = max(20, min(100, self.app.size.width) - 7), time.time()
        return [line_of(hit, width, now) for hit in self._hits]

    def on_resize(self) -> None:
        options = self.query_one(OptionList)
        highlighted = options.highlighted
        options.set_options(Option(line) for line in self._lines())
        options.highlighted = highlighted

    def action_move(self, how: str) -> None:
        getattr(self.query_one(OptionList), f"action_{how}")()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if event.value == self._found_for:
            self._pick(self.query_one(OptionList).highlighted)
        else:  # what is listed is what other words have found
            self._picks_first = True

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._pick(event.option_index)

    def _pick(self, number: int | None) -> None:
        if number is not None and number < len(self._hits):
            self.dismiss(self._hits[number])


def _summary(query: str, hits: int) -> str:
    if not query.strip():
        return "The chats used last"
    if not hits:
        return "Nothing was found."
    return f"{hits} found" if hits < FOUND else f"The newest {FOUND}"


def line_of(hit: SearchHit, width: int, now: float) -> Content:
    """A hit on two lines: the chat, who wrote it and when; then an excerpt, with what was
    searched for in bold."""
    # One cell for each control character, so that the ranges of the matches stay right.
    shown = map(one_line, hit.snippet)
    snippet = "".join(c if len(c) == 1 else "\N{REPLACEMENT CHARACTER}" for c in shown)
    excerpt = Content(f"  {snippet}")
    for start, end in hit.matches:
        excerpt = excerpt.stylize("bold $text-warning", start + 2, end + 2)
    day = day_and_time(hit.created_at, now)
    role = "title" if hit.message_id is None else ROLES.get(hit.role or "", "")
    title = one_line(hit.title[:200]) or "New chat"
    if hit.private:
        title = f"{PRIVATE} {title}"
    room = width - cell_len(day) - len(role) - 4
    if cell_len(title) > room:
        title = set_cell_size(title, room - 1).rstrip() + "…"
    gap = " " * (room - cell_len(title) + 1)
    heading = Content.assemble(title, gap, (f"{role}  {day}", "dim"))
    return Content("\n").join([heading, excerpt.truncate(width, ellipsis=True)])
