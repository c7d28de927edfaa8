"""What goes along with a prompt, all of it: which files, how much of each, and their text."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import ClassVar, Protocol

from rich.cells import cell_len
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from openchat_local.app.documents.extraction import Cancelled
from openchat_local.app.printable import one_line, printable
from openchat_local.app.replies.attachments import Attachment
from openchat_local.app.replies.gathering import Gathered, missing
from openchat_local.app.replies.reading import Attached

PREVIEWED = 100_000
"""Characters of a text that are shown; a screen of 60 lines has 5,000."""
SHORT = 8
"""Rows of files and text that fit on the smallest terminal."""
READING = "Reading what goes along with your prompt … Esc goes back to it."


class Reads(Protocol):
    """Gathers what goes along; may take long."""

    def __call__(self, *, wanted: Callable[[], bool]) -> Gathered: ...


class GoingAlong(ModalScreen[Gathered | None]):
    """Gives what was shown once the user agrees, at once where the prompt cannot be sent, and
    None for Esc, which ends the reading too."""

    DEFAULT_CSS = """
    GoingAlong { align: center middle; }
    GoingAlong > Vertical {
        width: 100%;
        max-width: 120;
        height: auto;
        max-height: 100%;
        border: round $primary;
        background: $surface;
        padding: 0 1;
    }
    GoingAlong Static { height: auto; }
    GoingAlong #about { max-height: 6; margin-bottom: 1; }
    GoingAlong .-long { height: 100%; }
    GoingAlong .-long VerticalScroll { height: 1fr; }
    GoingAlong OptionList {
        height: auto;
        max-height: 30%;
        border: none;
        padding: 0;
        background: $surface;
        & > .option-list--option-highlighted { background: $foreground 15%; text-style: none; }
        &:focus { border: none; }
    }
    GoingAlong VerticalScroll { height: auto; margin-top: 1; }
    GoingAlong #text, GoingAlong #keys { color: $foreground 70%; }
    GoingAlong #keys { margin-top: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "go_back", "Back to the prompt"),
        Binding("enter", "agree", "Send it", priority=True),
        Binding("pageup", "page(-1)", "Its text, up", priority=True),
        Binding("pagedown", "page(1)", "Its text, down", priority=True),
    ]

    def __init__(self, read: Reads, describe: Callable[[Attached], str], *, sends: bool) -> None:
        super().__init__()
        self._read = read
        self._describe = describe
        self._sends = sends
        self._gathered: Gathered | None = None
        self._parts: list[Attachment] = []
        self._left = threading.Event()

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content(READING), id="about", markup=False)
            yield OptionList(markup=False)
            with VerticalScroll(can_focus=False):
                yield Static(id="text", markup=False)
            yield Static(id="keys", markup=False)

    def on_mount(self) -> None:
        self._gather()

    def on_unmount(self) -> None:
        self._left.set()

    @work
    async def _gather(self) -> None:
        try:
            gathered = await asyncio.to_thread(self._read, wanted=lambda: not self._left.is_set())
        except Cancelled:
            return
        if self._sends and gathered.held_back_by is not None:
            self.dismiss(gathered)
            return
        lines = await asyncio.to_thread(lambda: list(map(self._describe, gathered.attached)))
        lines = [*map(str, gathered.problems), *missing(gathered.prompt), *lines]
        self._gathered = gathered
        self._parts = [part for each in gathered.attached for part in each.parts]
        self.query_one("#about", Static).update(Content(printable("\n".join(lines))))
        # Where all of it would not fit, the text gets what room is left.
        rows = max(
            (part.text.count("\n") + len(part.text) // 60 for part in self._parts), default=0
        )
        self.query_one(Vertical).set_class(rows + len(self._parts) > SHORT, "-long")
        listed = self.query_one(OptionList)
        listed.add_options(Option(self._row(part)) for part in self._parts)
        listed.highlighted = 0 if self._parts else None
        listed.focus()
        self.query_one("#keys", Static).update(Content(self._keys()))

    def _keys(self) -> str:
        keys = ["Enter sends the prompt with this", "Esc goes back to it"]
        if not self._sends:
            keys = ["Esc goes back to the prompt"]
        if len(self._parts) > 1:
            keys.append("Up, Down another file")
        return " · ".join([*keys, "PgUp, PgDn its text"])

    def _row(self, part: Attachment) -> Content:
        size = f"{len(part.text):,} characters"
        room = max(10, min(self.app.size.width, 120) - 8 - len(size))
        name = one_line(part.name)
        while cell_len(name) > room:  # the end of a path says more than its beginning
            name = "…" + name.removeprefix("…")[1:]
        return Content(f"{name}{' ' * (room - cell_len(name))}  {size}")

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        text = self._parts[event.option_index].text
        more = f"\n… {len(text) - PREVIEWED:,} more characters" if len(text) > PREVIEWED else ""
        shown = printable(text[:PREVIEWED]).expandtabs(4) + more
        self.query_one("#text", Static).update(Content(shown))
        self.query_one(VerticalScroll).scroll_home(animate=False)

    def action_page(self, direction: int) -> None:
        scroll = self.query_one(VerticalScroll)
        (scroll.scroll_page_up if direction < 0 else scroll.scroll_page_down)(animate=False)

    def action_agree(self) -> None:
        if self._sends and self._gathered is not None:
            self.dismiss(self._gathered)

    def action_go_back(self) -> None:
        self._left.set()
        self.dismiss(None)
