"""Rows of a conversation on the screen: a line-API widget that paints and scrolls.

No message is a widget, so a new line of a reply costs no layout: the rows that changed
are made, the screen scrolls, and everything above is served from a cache.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from openchat_local.app.tui.markdown.blocks import Block
from openchat_local.app.tui.markdown.copying import selected_text
from openchat_local.app.tui.markdown.layout import NOWHERE, Place, Section, Sheet
from openchat_local.app.tui.markdown.rows import Row
from openchat_local.app.tui.markdown.search import Finder, Span

MARGIN = 2
MARK = "┃ "
CACHED_STRIPS = 4096
BAR_SECONDS = 1.0
STYLES = frozenset(
    {"prompt", "code", "strong", "em", "strike", "heading", "title", "link", "inline-code"}
    | {"prefix", "dim", "keyword", "string", "number", "comment", "name", "builtin"}
    | {"deleted", "inserted", "mark", "faded", "hit", "current-hit"}
)


class Look(NamedTuple):
    """What is laid over a row: is its message selected, is it grey, what was found on it."""

    selected: bool = False
    faded: bool = False
    hits: tuple[Span, ...] = ()


PLAIN, _FADED = Look(), Look(faded=True)


class Transcript(ScrollView, can_focus=True):
    """Paints the sections of its sheet, and stays at their end while the reader does."""

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
    Transcript > .transcript--mark { color: $primary; text-style: bold; }
    Transcript > .transcript--faded { color: $foreground 45%; text-style: none; }
    Transcript > .transcript--hit { background: $warning 35%; }
    Transcript > .transcript--current-hit { background: $warning; color: $background; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"transcript--{name}" for name in STYLES}
    ALLOW_SELECT = True

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.sheet = Sheet()
        self.growing = False
        self.selected_key: str | None = None
        self.finder: Finder | None = None
        self._at_end = True
        self._bar_moved = 0.0
        self._strips: dict[int, tuple[Row, str, Look, Strip]] = {}
        self._styles: dict[tuple[str, str, bool], Style] = {}

    # What is shown

    @property
    def at_end(self) -> bool:
        """Whether the reader is at the end, and goes along when something comes."""
        return self._at_end and not self.is_vertical_scrollbar_grabbed

    @property
    def rows_below(self) -> int:
        """How many rows there are below the screen."""
        return max(0, self.sheet.rows - self.scroll_offset.y - self.size.height)

    def replace(
        self, first: int, last: int, sections: Sequence[Section], *, follow: bool = False
    ) -> None:
        """Put `sections` in place of those from number `first` up to `last`; what the reader
        sees stays where it is, at the end or anywhere else."""
        with self._changing(follow=follow):
            self.sheet.replace(first, last, sections)
            self._paint_from(self.sheet.span(first)[0] if first < len(self.sheet.sections) else 0)

    def grow(self, number: int, first: int, blocks: Sequence[Block]) -> None:
        """Put `blocks` in place of everything from block `first` of a section on."""
        with self._changing():
            row = self.sheet.sections[number].put(first, blocks)
            top = self.sheet.span(number)[0]
            self.sheet.changed(number)
            self._paint_from(top + row)

    @contextmanager
    def _changing(self, *, follow: bool = False) -> Iterator[None]:
        """Keeps the reader's place while sections come and go above it, or the end."""
        following = follow or self.at_end
        place = None if following else self.sheet.spot(self.scroll_offset.y)
        yield
        if following:
            self.go_to_end()
            return
        if place is not None and (row := self.sheet.row_of(place)) != self.scroll_offset.y:
            self.scroll_to(y=row, animate=False)
        self._at_end = self.scroll_offset.y >= self.max_scroll_y

    def go_to_end(self) -> None:
        """Show the last row, and follow from here on."""
        self._at_end = True
        self.scroll_to(y=self.max_scroll_y, animate=False)

    def page(self, direction: int) -> None:
        """Scroll by a screenful, up (-1) or down (1), two rows of it kept."""
        self.scroll_relative(y=direction * max(1, self.size.height - 2), animate=False)

    def show_rows(self, first: int, last: int) -> None:
        """Scroll as little as need be for the rows from `first` up to `last` to be seen; of
        more than a screenful, the beginning."""
        top, height = self.scroll_offset.y, self.size.height
        if first < top or last - first >= height:
            top = first
        elif last > top + height:
            top = last - height
        self.scroll_to(y=top, animate=False)

    def _paint_from(self, row: int) -> None:
        """The sheet changed from `row` on."""
        if not self.sheet.width:  # before the first layout, which ends in `on_resize`
            return
        if len(self._strips) > CACHED_STRIPS:
            self._strips.clear()
        # A changed `virtual_size` has the whole screen laid out; the scroll bar is always
        # there, so nobody but the scroll bar has to know.
        size = Size(self.size.width, self.sheet.rows + 1)
        self.set_reactive(ScrollView.virtual_size, size)
        self._move_scroll_bar()
        # Of a block that is made anew most rows come out as they were, and over a slow line a
        # screenful for every word is felt.
        first = max(0, row - self.scroll_offset.y)
        changed = [y for y in range(first, self.size.height) if self._comes_out_anew(y)]
        if changed:
            height = changed[-1] + 1 - changed[0]
            self.refresh(Region(0, changed[0], self.size.width, height))

    def _comes_out_anew(self, y: int) -> bool:
        """Whether a row of the screen is another than the one that was painted last."""
        before = self._strips.get(self.scroll_offset.y + y)
        return before is None or self.render_line(y) is not before[-1]

    def _move_scroll_bar(self) -> None:
        """Once a second while a reply grows in view: a bar's rows cost as much as the text's."""
        now = time.monotonic()
        if self.growing and self._at_end and now - self._bar_moved < BAR_SECONDS:
            return
        self._bar_moved = now
        bar = self.vertical_scrollbar
        bar.window_virtual_size = self.sheet.rows + 1
        bar.window_size = self.size.height
        bar.position = self.scroll_y

    @property
    def _width(self) -> int:
        return max(8, self.scrollable_content_region.width - 2 * MARGIN)

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
        place = self.sheet.place(row)
        runs, face = self._row(place)
        look = self._look(place)
        # Most rows of a block that is made anew come out as they were.
        known_runs, known_face, known_look, strip = self._strips.get(row, ((), "", PLAIN, None))
        if strip is None or known_face != face or known_look != look or known_runs != runs:
            strip = self._make_strip(row, runs, face, look)
            background = self.background_colors[1]
            for line_filter in self.get_line_filters():
                strip = strip.apply_filter(line_filter, background)
            self._strips[row] = (runs, face, look, strip)
        return strip

    def _make_strip(self, row: int, runs: Row, face: str, look: Look) -> Strip:
        width = self.size.width
        base = self._style("", "")
        if not runs and face == "" and look is PLAIN:
            return Strip.blank(width, base).apply_offsets(0, row)
        fill = self._style(face, "")
        segments = [Segment(text, self._style(face, names, look.faded)) for text, names in runs]
        used = sum(cell_len(segment.text) for segment in segments)
        segments.append(Segment(" " * max(0, self.sheet.width - used), fill))
        mark = (
            Segment(MARK, self._style("", "mark")) if look.selected else Segment(" " * MARGIN, base)
        )
        strip = Strip([mark, *segments, Segment(" " * MARGIN, base)]).adjust_cell_length(
            width, base
        )
        for start, end, current in look.hits:
            name = "transcript--current-hit" if current else "transcript--hit"
            style = self.get_component_rich_style(name)
            strip = _highlighted(strip, (MARGIN + start, MARGIN + end), style)
        selection = self.text_selection
        if selection is not None and (span := selection.get_span(row)) is not None:
            style = self.screen.get_component_rich_style("screen--selection")
            strip = _highlighted(strip, span, style)
        return strip.apply_offsets(0, row)

    def _row(self, place: Place) -> tuple[Row, str]:
        """What stands on a row, and on which face; nothing on no face between blocks."""
        if place.row < 0:
            return (), ""
        section = self.sheet.sections[place.section]
        face = section.blocks[place.block].face
        runs = section.rows(place.block)[place.row]
        return ((" ", ""), *runs) if face == "code" else runs, face

    def _look(self, place: Place) -> Look:
        if place is NOWHERE or (self.selected_key is None and self.finder is None):
            faded = place is not NOWHERE and self.sheet.sections[place.section].faded
            return _FADED if faded else PLAIN
        section = self.sheet.sections[place.section]
        selected = section.key == self.selected_key and (place.row >= 0 or place.block > 0)
        hits: tuple[Span, ...] = ()
        if self.finder is not None and place.row >= 0:
            hits = self.finder.spans(section, place.block, place.row)
        return Look(selected, section.faded, hits)

    def _style(self, face: str, names: str, faded: bool = False) -> Style:
        style = self._styles.get((face, names, faded))
        if style is None:
            style = self.rich_style
            for name in f"{face} {'faded' if faded else names}".split():
                if name in STYLES:
                    style += self._own_style(f"transcript--{name}")
            self._styles[face, names, faded] = style
        return style

    def _own_style(self, component: str) -> Style:
        """What a component class adds, with a translucent colour made opaque."""
        partial = self.get_component_rich_style(component, partial=True)
        if partial.color is None:
            return partial
        return partial + Style(color=self.get_component_rich_style(component).color)

    # Events

    def on_resize(self, event: events.Resize) -> None:
        if self._width != self.sheet.width:
            with self._changing():
                self.sheet.lay_out(self._width)
                self._strips.clear()
                self._paint_from(0)
        else:
            self._paint_from(self.sheet.rows)
        if self.at_end:
            self.go_to_end()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        if round(old_value) != round(new_value):
            self.refresh(self.size.region)
        self._at_end = round(new_value) >= self.max_scroll_y
        self._move_scroll_bar()

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
        last = min(selection.end.y if selection.end else self.sheet.rows, self.sheet.rows)
        spans: dict[int, tuple[int, int]] = {}
        for row in range(first, last + 1):
            start, end = selection.get_span(row) or (0, 0)
            spans[row] = max(0, start - MARGIN), -1 if end == -1 else max(0, end - MARGIN)
        return selected_text(self.sheet, spans), "\n"


def _highlighted(strip: Strip, span: tuple[int, int], style: Style) -> Strip:
    """`strip` with the characters of `span` in `style`; an end of -1 is the row's end."""
    start, end = span
    first = strip.index_to_cell_position(start)
    last = strip.cell_length if end == -1 else strip.index_to_cell_position(end)
    marked = strip.crop(first, last)
    # `Strip.apply_style` lets the colours that are there already win.
    marked = Strip(Segment.apply_style(marked, post_style=style), marked.cell_length)
    return Strip.join([strip.crop(0, first), marked, strip.crop(last)])
