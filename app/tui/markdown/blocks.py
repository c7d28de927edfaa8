"""The blocks a reply is made of. Each knows its height before it makes its rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

from rich.cells import cell_len

from openchat_local.app.tui.markdown.rows import (
    Line,
    Row,
    Run,
    fold,
    fold_height,
    own_lines,
    wrap,
    wrap_lines,
)

COLUMN_GAP = 2


class Block(Protocol):
    """Something with rows. `kind` ("prompt", "reply" or "code") decides the background; `gap`
    asks for a blank row above; what is not `searchable` are the program's own words: nothing is
    found in them. `source` is what is copied in place of all of it, None for what stands on the
    screen. A `wide` block may be wider than the reading width."""

    kind: str
    wide: bool
    gap: bool
    searchable: bool
    source: str | None

    def height(self, width: int) -> int:
        """How many rows it takes at `width` cells, the gap left out."""

    def rows(self, width: int) -> Sequence[Row]:
        """Its rows, each at most `width` cells."""

    def paragraphs(self, width: int) -> Sequence[int]:
        """How many rows each of its own lines was broken into: 1 where it fits."""

    def texts(self) -> Sequence[str] | None:
        """Its own lines as they were before they were broken; None where there are none."""


class TextBlock:
    """Wrapped lines: a paragraph, a heading, a list, a quotation."""

    wide = False

    def __init__(
        self,
        lines: Sequence[Line],
        *,
        kind: str = "reply",
        gap: bool = True,
        searchable: bool = True,
        source: str | None = None,
    ) -> None:
        self.source = source
        self.lines = lines
        self.kind = kind
        self.gap = gap
        self.searchable = searchable
        self._made: tuple[int, list[Row]] = (-1, [])

    def height(self, width: int) -> int:
        return len(self.rows(width))

    def rows(self, width: int) -> list[Row]:
        if self._made[0] != width:
            self._made = (width, [row for line in self.lines for row in wrap(line, width)])
        return self._made[1]

    def paragraphs(self, width: int) -> list[int]:
        return [len(rows) for line in self.lines for rows in wrap_lines(line, width)]

    def texts(self) -> list[str]:
        return [text for line in self.lines for text in own_lines(line)]


class CodeBlock:
    """Up to a few dozen lines of one code fence; a long fence is several of these, so that
    one more line never costs a second look at the lines before it."""

    kind = "code"
    wide = True
    searchable = True
    source: str | None = None

    def __init__(self, code: Sequence[str], language: str, *, gap: bool) -> None:
        self.code = code
        self.language = language
        self.gap = gap
        self._made: tuple[int, list[Row]] = (-1, [])

    def height(self, width: int) -> int:
        return sum(fold_height(line, width) for line in self.code)

    def rows(self, width: int) -> list[Row]:
        if self._made[0] != width:
            from openchat_local.app.tui.markdown.highlight import highlight

            lines = highlight(self.code, self.language)
            self._made = (width, [row for line in lines for row in fold(line, width)])
        return self._made[1]

    def paragraphs(self, width: int) -> list[int]:
        return [fold_height(line, width) for line in self.code]

    def texts(self) -> Sequence[str]:
        return self.code


class TableBlock:
    """A table; the first row is its header. Columns shrink, widest first, until it fits."""

    kind = "reply"
    wide = True
    gap = True
    searchable = True

    def __init__(
        self,
        cells: Sequence[Sequence[Row]],
        right_aligned: frozenset[int] = frozenset(),
        source: str | None = None,
    ) -> None:
        self.source = source
        self.cells = cells
        self.right_aligned = right_aligned
        self._made: tuple[int, list[Row]] = (-1, [])

    def height(self, width: int) -> int:
        return len(self.rows(width))

    def rows(self, width: int) -> list[Row]:
        if self._made[0] != width:
            self._made = (width, self._make(width))
        return self._made[1]

    def paragraphs(self, width: int) -> list[int]:
        return [1] * len(self.rows(width))

    def texts(self) -> None:
        """Its cells are broken one beside the other: there are no lines."""

    def _make(self, width: int) -> list[Row]:
        columns = max((len(row) for row in self.cells), default=0)
        widths = [
            max((_cells(row[column]) for row in self.cells if column < len(row)), default=1) or 1
            for column in range(columns)
        ]
        while sum(widths) + COLUMN_GAP * (columns - 1) > width and max(widths) > 1:
            widths[widths.index(max(widths))] -= 1
        rows: list[Row] = []
        for number, cells in enumerate(self.cells):
            rows += _table_row(tuple(cells), tuple(widths), self.right_aligned)
            if number == 0:
                rows.append((("─" * (sum(widths) + COLUMN_GAP * (columns - 1)), "prefix"),))
        return rows


@lru_cache(maxsize=4096)
def _table_row(
    cells: tuple[Row, ...], widths: tuple[int, ...], right_aligned: frozenset[int]
) -> list[Row]:
    """A row of a table; most are made anew with every line that a table grows by."""
    wrapped = [wrap(Line(cell), width) for cell, width in zip(cells, widths, strict=False)]
    rows: list[Row] = []
    for number in range(max((len(cell) for cell in wrapped), default=0)):
        row: list[Run] = []
        blank = 0
        for column, (cell, width) in enumerate(zip(wrapped, widths, strict=False)):
            piece = cell[number] if number < len(cell) else ()
            room = width - _cells(piece)
            before = room if column in right_aligned else 0
            row += [(" " * (blank + before), ""), *piece]
            blank = room - before + COLUMN_GAP
        rows.append(tuple(row))
    return rows


def _cells(row: Row) -> int:
    return sum(cell_len(text) for text, _ in row)
