"""Rows of a layout as Textual's strips: made once, and kept until a row comes out otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from openchat_local.app.tui.markdown.layout import NOWHERE, Layout, Place
from openchat_local.app.tui.markdown.rows import Row
from openchat_local.app.tui.markdown.search import Finder, Span

if TYPE_CHECKING:
    from textual.widget import Widget


MARGIN = 2
MARK = "┃ "
CACHED_STRIPS = 4096
STYLES = {
    "prompt": "background: $surface",
    "code": "background: $surface",
    "strong": "text-style: bold",
    "em": "text-style: italic",
    "strike": "text-style: strike",
    "heading": "text-style: bold; color: $text-primary",
    "title": "text-style: bold underline",
    "link": "text-style: underline; color: $text-accent",
    "inline-code": "color: $text-warning",
    "prefix": "color: $text-primary",
    "dim": "color: $foreground 60%",
    "keyword": "color: $text-primary; text-style: bold",
    "string": "color: $text-success",
    "number": "color: $text-warning",
    "comment": "color: $foreground 60%; text-style: italic",
    "name": "color: $text-accent",
    "builtin": "color: $text-secondary",
    "deleted": "color: $text-error",
    "inserted": "color: $text-success",
    "mark": "color: $primary; text-style: bold",
    "faded": "color: $foreground 45%; text-style: none",
    "hit": "background: $warning 35%",
    "current-hit": "background: $warning; color: $background",
}
"""What runs and blocks name, and how it looks: component classes of the transcript."""


class Look(NamedTuple):
    """What is laid over a row: is its message selected, is it grey, what was found on it."""

    selected: bool = False
    faded: bool = False
    hits: tuple[Span, ...] = ()


PLAIN, FADED = Look(), Look(faded=True)


def look_of(layout: Layout, place: Place, selected_key: str | None, finder: Finder | None) -> Look:
    """What is laid over the row of a place."""
    if place is NOWHERE:
        return PLAIN
    section = layout.sections[place.section]
    if selected_key is None and finder is None:
        return FADED if section.faded else PLAIN
    selected = section.key == selected_key and (place.row >= 0 or place.block > 0)
    hits: tuple[Span, ...] = ()
    if finder is not None and place.row >= 0:
        hits = finder.spans(section, place.block, place.row)
    return Look(selected, section.faded, hits)


class RowPainter:
    """The strips of a layout, in the styles of a widget."""

    def __init__(self, widget: Widget, layout: Layout) -> None:
        self._widget = widget
        self._layout = layout
        self._strips: dict[int, tuple[Row, str, Look, Strip]] = {}
        self._styles: dict[tuple[str, str, bool], Style] = {}

    def clear(self) -> None:
        """Make every row anew when it is next painted."""
        self._strips.clear()

    def clear_styles(self) -> None:
        """The theme has changed."""
        self._styles.clear()
        self._strips.clear()

    def make_room(self) -> None:
        """Forget what was painted when that is too much."""
        if len(self._strips) > CACHED_STRIPS:
            self._strips.clear()

    def painted(self, row: int) -> Strip | None:
        """The strip that a row was painted as last."""
        known = self._strips.get(row)
        return None if known is None else known[-1]

    def paint(self, row: int, place: Place, look: Look) -> Strip:
        """The strip for a row on which `place` stands: the last one where it is the same."""
        runs, kind = self._layout.runs(place)
        # Most rows of a block that is made anew come out as they were.
        known_runs, known_kind, known_look, strip = self._strips.get(row, ((), "", PLAIN, None))
        if strip is None or known_kind != kind or known_look != look or known_runs != runs:
            strip = self._make(row, runs, kind, look)
            background = self._widget.background_colors[1]
            for line_filter in self._widget.get_line_filters():
                strip = strip.apply_filter(line_filter, background)
            self._strips[row] = (runs, kind, look, strip)
        return strip

    def _make(self, row: int, runs: Row, kind: str, look: Look) -> Strip:
        widget = self._widget
        width = widget.size.width
        base = self._style("", "")
        if not runs and kind == "" and look is PLAIN:
            return Strip.blank(width, base).apply_offsets(0, row)
        fill = self._style(kind, "")
        segments = [Segment(text, self._style(kind, names, look.faded)) for text, names in runs]
        used = sum(cell_len(segment.text) for segment in segments)
        segments.append(Segment(" " * max(0, self._layout.width - used), fill))
        mark = (
            Segment(MARK, self._style("", "mark")) if look.selected else Segment(" " * MARGIN, base)
        )
        strip = Strip([mark, *segments, Segment(" " * MARGIN, base)]).adjust_cell_length(
            width, base
        )
        for start, end, current in look.hits:
            name = "transcript--current-hit" if current else "transcript--hit"
            style = widget.get_component_rich_style(name)
            strip = _highlighted(strip, (MARGIN + start, MARGIN + end), style)
        selection = widget.text_selection
        if selection is not None and (span := selection.get_span(row)) is not None:
            style = widget.screen.get_component_rich_style("screen--selection")
            strip = _highlighted(strip, span, style)
        return strip.apply_offsets(0, row)

    def _style(self, kind: str, names: str, faded: bool = False) -> Style:
        style = self._styles.get((kind, names, faded))
        if style is None:
            style = self._widget.rich_style
            for name in f"{kind} {'faded' if faded else names}".split():
                if name in STYLES:
                    style += self._own_style(f"transcript--{name}")
            self._styles[kind, names, faded] = style
        return style

    def _own_style(self, component: str) -> Style:
        """What a component class adds, with a translucent colour made opaque."""
        partial = self._widget.get_component_rich_style(component, partial=True)
        if partial.color is None:
            return partial
        return partial + Style(color=self._widget.get_component_rich_style(component).color)


def _highlighted(strip: Strip, span: tuple[int, int], style: Style) -> Strip:
    """`strip` with the characters of `span` in `style`; an end of -1 is the row's end."""
    start, end = span
    first = strip.index_to_cell_position(start)
    last = strip.cell_length if end == -1 else strip.index_to_cell_position(end)
    marked = strip.crop(first, last)
    # `Strip.apply_style` lets the colours that are there already win.
    marked = Strip(Segment.apply_style(marked, post_style=style), marked.cell_length)
    return Strip.join([strip.crop(0, first), marked, strip.crop(last)])
