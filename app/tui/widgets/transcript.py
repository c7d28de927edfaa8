"""The conversation on the screen: a line-API widget that paints rows and nothing else.

No message is a widget, so a new line of a reply costs no layout: the rows that changed
are made, the screen scrolls, and everything above is served from a cache.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from openchat_local.app.tui.reply.blocks import Block
from openchat_local.app.tui.reply.document import Document
from openchat_local.app.tui.reply.rows import Row

MARGIN = 2
CACHED_STRIPS = 4096
BAR_SECONDS = 1.0
STYLES = frozenset(
    {"prompt", "code", "strong", "em", "strike", "heading", "title", "link", "inline-code"}
    | {"prefix", "dim", "keyword", "string", "number", "comment", "name", "builtin"}
    | {"deleted", "inserted"}
)


class Transcript(ScrollView, can_focus=True):
    """Shows blocks, grows a reply at the end, and stays there while the reader does."""

    DEFAULT_CSS = """
    Transcript {
        overflow-x: hidden;
        overflow-y: scroll;
        scrollbar-size-vertical: 1;
        scrollbar-background: $background;
        background: $background;
        color: $foreground;
    }
    Transcript > .transcript--prompt { background: $surface; }
    Transcript > .transcript--code { background: $surface; }
    Transcript > .transcript--strong { text-style: bold; }
    Transcript > .transcript--em { text-style: italic; }
    Transcript > .transcript--strike { text-style: strike; }
    Transcript > .transcript--heading { text-style: bold; color: $text-primary; }
    Transcript > .transcript--title { text-style: bold underline; }
    Transcript > .transcript--link { text-style: underline; color: $text-accent; }
    Transcript > .transcript--inline-code { color: $text-warning; }
    Transcript > .transcript--prefix { color: $text-primary; }
    Transcript > .transcript--dim { color: $foreground 60%; }
    Transcript > .transcript--keyword { color: $text-primary; text-style: bold; }
    Transcript > .transcript--string { color: $text-success; }
    Transcript > .transcript--number { color: $text-warning; }
    Transcript > .transcript--comment { color: $foreground 60%; text-style: italic; }
    Transcript > .transcript--name { color: $text-accent; }
    Transcript > .transcript--builtin { color: $text-secondary; }
    Transcript > .transcript--deleted { color: $text-error; }
    Transcript > .transcript--inserted { color: $text-success; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"transcript--{name}" for name in STYLES}
    ALLOW_SELECT = True

    class TopReached(Message):
        """The reader came to the oldest message shown."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._blocks: list[Block] = []
        self._tops: list[int] = [0]
        self._reply: tuple[Document, int] | None = None
        self._laid_out_width = 0
        self._at_end = True
        self._bar_moved = 0.0
        self._strips: dict[int, tuple[Row, str, Strip]] = {}
        self._styles: dict[tuple[str, str], Style] = {}

    # What is shown

    @property
    def rows(self) -> int:
        """How many rows everything takes together."""
        return self._tops[-1]

    def show(self, blocks: Sequence[Block]) -> None:
        """Show `blocks` and nothing else, at their end."""
        self._reply = None
        self._replace(0, blocks, follow=True)

    def extend(self, blocks: Iterable[Block]) -> None:
        """Put `blocks` at the end; the reader goes along only from there."""
        self._reply = None
        self._replace(len(self._blocks), blocks)

    def prepend(self, blocks: Sequence[Block]) -> None:
        """Put older `blocks` in front; what the reader sees stays where it is."""
        before = self._tops[-1]
        if self._reply is not None:
            self._reply = (self._reply[0], self._reply[1] + len(blocks))
        self._replace(0, [*blocks, *self._blocks])
        self.scroll_to(y=self.scroll_y + self._tops[-1] - before, animate=False)

    def begin_reply(self, text: str = "") -> None:
        """Start a reply at the end, of which `text` is there already."""
        document = Document(text)
        first = len(self._blocks)
        self._replace(first, document.blocks, follow=True)
        self._reply = (document, first)

    def grow_reply(self, text: str) -> None:
        """More of the reply that `begin_reply` started."""
        assert self._reply is not None
        document, first = self._reply
        changed = document.append(text)
        self._replace(first + changed, document.blocks[changed:])

    def page(self, direction: int) -> None:
        """Scroll by a screenful, up (-1) or down (1), two rows of it kept."""
        if direction < 0 and self.scroll_offset.y == 0:
            self.post_message(self.TopReached())
        self.scroll_relative(y=direction * max(1, self.size.height - 2), animate=False)

    def _replace(self, first: int, blocks: Iterable[Block], *, follow: bool = False) -> None:
        """Put `blocks` in place of everything from block number `first` on."""
        follow = follow or (self._at_end and not self.is_vertical_scrollbar_grabbed)
        self._blocks[first:] = blocks
        self._lay_out(first)
        if follow:
            self._go_to_end()

    def _go_to_end(self) -> None:
        self._at_end = True
        self.scroll_to(y=self.max_scroll_y, animate=False)

    def _lay_out(self, first: int) -> None:
        del self._tops[first + 1 :]
        if not self.size.width:  # before the first layout, which ends in `on_resize`
            self._tops += [self._tops[-1]] * len(self._blocks[first:])
            return
        width = self._laid_out_width = self._width
        for block in self._blocks[first:]:
            self._tops.append(self._tops[-1] + block.gap + block.height(self._room(block, width)))
        top, height = self._tops[first], self._tops[-1] + 1
        if len(self._strips) > CACHED_STRIPS:
            self._strips.clear()
        # A changed `virtual_size` has the whole screen laid out; the scroll bar is always
        # there, so nobody but the scroll bar has to know.
        self.set_reactive(ScrollView.virtual_size, Size(self.size.width, height))
        self._move_scroll_bar()
        self.refresh(Region(0, max(0, top - self.scroll_offset.y), *self.size))

    def _move_scroll_bar(self) -> None:
        """Once a second while a reply grows in view: a bar's rows cost as much as the text's."""
        now = time.monotonic()
        if self._reply is not None and self._at_end and now - self._bar_moved < BAR_SECONDS:
            return
        self._bar_moved = now
        bar = self.vertical_scrollbar
        bar.window_virtual_size = self._tops[-1] + 1
        bar.window_size = self.size.height
        bar.position = self.scroll_y

    @property
    def _width(self) -> int:
        return max(8, self.scrollable_content_region.width - 2 * MARGIN)

    @staticmethod
    def _room(block: Block, width: int) -> int:
        return width - 2 if block.face == "code" else width

    # Painting

    def render_lines(self, crop: Region) -> list[Strip]:
        """The rows of `crop`, straight from the cache: there is no border, padding or link
        here, and the general way through Textual's style cache takes twice the time."""
        strips = [self.render_line(y) for y in crop.line_range]
        if crop.column_span != (0, self.size.width):
            strips = [strip.crop_extend(crop.x, crop.right, self.rich_style) for strip in strips]
        return strips

    def render_line(self, y: int) -> Strip:
        row = self.scroll_offset.y + y
        runs, face = self._row(row)
        # Most rows of a block that is made anew come out as they were.
        known_runs, known_face, strip = self._strips.get(row, ((), None, None))
        if strip is None or known_face != face or known_runs != runs:
            strip = self._make_strip(row, runs, face)
            background = self.background_colors[1]
            for line_filter in self.get_line_filters():
                strip = strip.apply_filter(line_filter, background)
            self._strips[row] = (runs, face, strip)
        return strip

    def _make_strip(self, row: int, runs: Row, face: str) -> Strip:
        width = self.size.width
        base = self._style("", "")
        if not runs and face == "":
            return Strip.blank(width, base).apply_offsets(0, row)
        fill = self._style(face, "")
        segments = [Segment(text, self._style(face, names)) for text, names in runs]
        used = sum(cell_len(segment.text) for segment in segments)
        segments.append(Segment(" " * max(0, self._laid_out_width - used), fill))
        margin = Segment(" " * MARGIN, base)
        strip = Strip([margin, *segments, margin]).adjust_cell_length(width, base)
        selection = self.text_selection
        if selection is not None and (span := selection.get_span(row)) is not None:
            style = self.screen.get_component_rich_style("screen--selection")
            strip = _highlighted(strip, span, style)
        return strip.apply_offsets(0, row)

    def _row(self, row: int) -> tuple[Row, str]:
        """What stands on a row, and on which face; nothing on no face between blocks."""
        if not 0 <= row < self._tops[-1]:
            return (), ""
        number = bisect_right(self._tops, row) - 1
        block = self._blocks[number]
        index = row - self._tops[number] - block.gap
        if index < 0:
            return (), ""
        runs = block.rows(self._room(block, self._laid_out_width))[index]
        return ((" ", ""), *runs) if block.face == "code" else runs, block.face

    def _style(self, face: str, names: str) -> Style:
        style = self._styles.get((face, names))
        if style is None:
            style = self.rich_style
            for name in f"{face} {names}".split():
                if name in STYLES:
                    style += self._own_style(f"transcript--{name}")
            self._styles[face, names] = style
        return style

    def _own_style(self, component: str) -> Style:
        """What a component class adds, with a translucent colour made opaque."""
        partial = self.get_component_rich_style(component, partial=True)
        if partial.color is None:
            return partial
        return partial + Style(color=self.get_component_rich_style(component).color)

    # Events

    def on_resize(self, event: events.Resize) -> None:
        if self._width != self._laid_out_width:
            number = max(0, bisect_right(self._tops, self.scroll_offset.y) - 1)
            within = self.scroll_offset.y - self._tops[number]
            self._lay_out(0)
            self._strips.clear()
            if not self._at_end:
                self.scroll_to(y=self._tops[number] + within, animate=False)
        self._lay_out(len(self._blocks))
        if self._at_end:
            self._go_to_end()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        if round(old_value) != round(new_value):
            self.refresh(self.size.region)
        self._at_end = round(new_value) >= self.max_scroll_y
        self._move_scroll_bar()
        # At the end it is not the reader who moved, but the window or the text.
        if new_value < old_value and new_value < self.size.height and not self._at_end:
            self.post_message(self.TopReached())

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._styles.clear()
        self._strips.clear()

    # Selection with the mouse

    def selection_updated(self, selection: Selection | None) -> None:
        self._strips.clear()
        self.refresh()

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        first = selection.start.y if selection.start else 0
        last = min(selection.end.y if selection.end else self._tops[-1], self._tops[-1])
        lines: list[str] = []
        for row in range(first, last + 1):
            text = " " * MARGIN + "".join(text for text, _ in self._row(row)[0])
            start, end = selection.get_span(row) or (0, 0)
            lines.append(text[max(MARGIN, start) : None if end == -1 else end].rstrip())
        return "\n".join(lines), "\n"


def _highlighted(strip: Strip, span: tuple[int, int], style: Style) -> Strip:
    """`strip` with the characters of `span` in `style`; an end of -1 is the row's end."""
    start, end = span
    first = strip.index_to_cell_position(start)
    last = strip.cell_length if end == -1 else strip.index_to_cell_position(end)
    return Strip.join(
        [strip.crop(0, first), strip.crop(first, last).apply_style(style), strip.crop(last)]
    )
