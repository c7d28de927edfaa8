"""A text area that keeps every character as it is, shows each, and stays quick in long lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rich.containers import Lines
from rich.text import Text
from textual import events
from textual._wrap import compute_wrap_offsets
from textual.document._document import Document, EditResult, Location
from textual.document._document_navigator import DocumentNavigator
from textual.document._wrapped_document import WrappedDocument
from textual.expand_tabs import get_tab_widths
from textual.widgets import TextArea

from openchat_local.app.printable import in_place

# Textual wraps a line anew at every key in it, at 4 µs a character.
LONG_LINE = 2_000
TAB_CELLS, WIDE_CELLS = 4, 2


class PlainArea(TextArea):
    """Only "\\n" ends a line: form feeds and Unicode's separators are characters like others."""

    def _set_document(self, text: str, language: str | None) -> None:
        self._highlight_query = None
        self.document = PlainDocument(text)
        self.wrapped_document = PlainWrap(self.document, tab_width=self.indent_width)
        self.navigator = DocumentNavigator(self.wrapped_document)
        self._build_highlight_map()
        self.move_cursor((0, 0))
        self._rewrap_and_refresh_virtual_size()

    def get_line(self, line_index: int) -> Text:
        line = in_place(self.document.get_line(line_index))
        return _LongText(line) if len(line) > LONG_LINE else Text(line, end="", no_wrap=True)

    def find_matching_bracket(self, bracket: str, search_from: Location) -> Location | None:
        """None: the search goes through all of the text, at every move of the cursor."""
        return None

    async def _on_paste(self, event: events.Paste) -> None:
        event.prevent_default()  # Textual calls the base class's handler as well: pasted twice
        event.text = with_plain_line_ends(event.text)
        await super()._on_paste(event)


def with_plain_line_ends(text: str) -> str:
    """Those of Windows and old Macs would otherwise be shown as stray characters."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


class PlainDocument(Document):
    """Textual's, but for what ends a line."""

    def __init__(self, text: str) -> None:
        super().__init__("")
        self._lines = text.split("\n")

    def replace_range(self, start: Location, end: Location, text: str) -> EditResult:
        """Put `text` in place of what is from `start` to `end`."""
        (top, left), (bottom, right) = sorted((start, end))
        replaced = self.get_text_range((top, left), (bottom, right))
        before = self._lines[top][:left] if top < len(self._lines) else ""
        after = self._lines[bottom][right:] if bottom < len(self._lines) else ""
        lines = (before + text).split("\n")
        row, column = top + len(lines) - 1, len(lines[-1])
        lines[-1] += after
        self._lines[top : bottom + 1] = lines
        return EditResult((row, column), replaced)


class PlainWrap(WrappedDocument):
    """Lines that are long, or hold control characters, are wrapped as they are shown."""

    def wrap(self, width: int, tab_width: int | None = None) -> None:
        """Wrap all lines at `width` cells, 0 for not at all."""
        if width == 0 or not any(map(_is_odd, self.document.lines)):
            super().wrap(width, tab_width)
            return
        self._width, self._tab_width = width, tab_width or self._tab_width
        lines = self.document.lines
        tabs = [get_tab_widths(line, self._tab_width) for line in lines]
        self._tab_width_cache = [[cells for _, cells in sections] for sections in tabs]
        self._wrap_offsets = [
            _offsets(line, width, self._tab_width, sections)
            for line, sections in zip(lines, tabs, strict=True)
        ]
        self._offset_to_line_info = [
            (number, section)
            for number, offsets in enumerate(self._wrap_offsets)
            for section in range(len(offsets) + 1)
        ]
        row = 0
        self._line_index_to_offsets = []
        for offsets in self._wrap_offsets:
            self._line_index_to_offsets.append([*range(row, row + len(offsets) + 1)])
            row += len(offsets) + 1

    def wrap_range(self, start: Location, old_end: Location, new_end: Location) -> None:
        """Wrap what an edit has changed."""
        first, last = min(start[0], new_end[0]), max(start[0], new_end[0])
        if any(map(_is_odd, self.document.lines[first : last + 1])):
            self.wrap(self._width)
        else:
            super().wrap_range(start, old_end, new_end)

    def get_sections(self, line_index: int) -> list[str]:
        """The rows of a line, as they are shown."""
        return _cut(in_place(self.document[line_index]), self._wrap_offsets[line_index])


def _is_odd(line: str) -> bool:
    return len(line) > LONG_LINE or in_place(line) != line


def _offsets(line: str, width: int, tab_width: int, tabs: list[tuple[str, int]]) -> list[int]:
    """Where a line is broken so that each row has at most `width` cells."""
    shown = in_place(line)
    if len(shown) <= LONG_LINE:
        return compute_wrap_offsets(shown, width, tab_width, precomputed_tab_sections=tabs)
    # As many characters as fit in any case: to look at each would cost what this avoids.
    most = 1 if shown.isascii() else WIDE_CELLS
    room = max(1, width // (TAB_CELLS if "\t" in shown else most))
    rows = re.finditer(rf".{{1,{room}}}(?:(?<=[ \t])|$)|.{{{room}}}", shown, re.DOTALL)
    return [row.end() for row in rows if row.end() < len(shown)]


def _cut(text: str, offsets: Sequence[int]) -> list[str]:
    ends = [*offsets, len(text)]
    return [text[start:end] for start, end in zip([0, *offsets], ends, strict=True)]


class _LongText(Text):
    """A line of which only the row that is drawn is cut out: it has thousands. It holds no
    control characters, for which Text would look through all of it several times."""

    def __init__(self, line: str) -> None:
        super().__init__(end="", no_wrap=True)
        self._text, self._length = [line], len(line)

    def set_length(self, new_length: int) -> None:
        self._text.append(" " * (new_length - self._length))
        self._length = new_length

    def divide(self, offsets: Iterable[int]) -> Lines:
        return _Rows(self, [*offsets])


class _Rows(Lines):
    """What Textual asks for first is the row that it draws; those above it are asked for their
    tabs alone, of which the first has all."""

    def __init__(self, line: Text, offsets: Sequence[int]) -> None:
        super().__init__()
        self._line = line
        self._bounds = [0, *offsets, len(line)]
        self._above: Text | None = None

    def __getitem__(self, index: int) -> Text:  # type: ignore[override]  # never a slice
        if self._above is not None:
            return self._above if index == 0 else _NO_TABS
        start, end = self._bounds[index], self._bounds[index + 1]
        plain = self._line.plain
        self._above = Text("\t" * plain.count("\t", 0, start))
        row = Text(plain[start:end], end="")
        for first, last, style in self._line.spans:
            if first < end and last > start:
                row.stylize(style, max(0, first - start), last - start)
        return row


_NO_TABS = Text("")
