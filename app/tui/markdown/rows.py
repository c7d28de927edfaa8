"""Rows of a terminal: styled text wrapped to a width in cells."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.cells import cell_len, chop_cells

from openchat_local.app.tui.markdown.folding import cuts, fits

Run = tuple[str, str]
"""A piece of text and the names of its styles, separated by spaces ("" for plain)."""

Row = tuple[Run, ...]
"""What stands on one row of the screen, left to right."""

# Scripts written without spaces break between any two characters, except before
# closing punctuation (the heart of kinsoku).
_WIDE = (
    "\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff"
    "\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6\U00020000-\U0003fffd"
)
_CLOSING = "、。，．・：；？！）］｝」』】〉》”’…"
_PIECE = re.compile(
    rf"\s*(?:[{_WIDE}][{_CLOSING}]*|[^\s{_WIDE}]+[{_CLOSING}]*|$)",
)


@dataclass(frozen=True, slots=True)
class Line:
    """One logical line and what stands in front of its first and of its further rows. A line of
    `code` is broken as code is."""

    runs: Row
    first: str = ""
    rest: str = ""
    code: bool = False


def wrap(line: Line, width: int) -> list[Row]:
    """`line` as rows of at most `width` cells (but never less than one character a row)."""
    return [row for rows in wrap_lines(line, width) for row in rows]


def wrap_lines(line: Line, width: int) -> Iterator[list[Row]]:
    """Like `wrap`, the rows of each of its own lines for themselves."""
    prefix = line.first
    room = max(1, width - max(cell_len(line.first), cell_len(line.rest)))
    if line.code:
        yield [
            _behind(line.rest if n else prefix, row) for n, row in enumerate(fold(line.runs, room))
        ]
        return
    for part in _hard_lines(line.runs):
        rows: list[Row] = []
        text = "".join(piece for piece, _ in part)
        ends = [len(text)] if cell_len(text) <= room else list(_row_ends(text, room))
        start = 0
        for end in ends:
            row = _cut(part, start, end)
            rows.append(_behind(prefix, row))
            prefix, start = line.rest, end
            while start < len(text) and text[start] == " ":
                start += 1
        yield rows


def fold(runs: Row, width: int) -> list[Row]:
    """Code as rows of at most `width` cells: its spaces all count, and each row but the first
    has a mark before it."""
    text = "".join(piece for piece, _ in runs)
    if fits(text, width):
        return [runs]
    return [_behind(before, _cut(runs, start, end)) for start, end, before in cuts(text, width)]


def fold_height(text: str, width: int) -> int:
    """How many rows `fold` gives, without making them."""
    return 1 if fits(text, width) else len(cuts(text, width))


def own_lines(line: Line) -> list[str]:
    """The text of the lines that `line` is, without what stands before them: `wrap_lines` gives
    the rows of each."""
    text = "".join(piece for piece, _ in line.runs)
    return [text] if line.code else text.split("\n")


def _behind(prefix: str, row: Row) -> Row:
    """The row with something before it that is not its text, in one run."""
    if row and row[0][1] == "prefix":
        return ((prefix + row[0][0], "prefix"), *row[1:])
    return ((prefix, "prefix"), *row) if prefix else row


def _hard_lines(runs: Row) -> Iterator[Row]:
    if not any("\n" in text for text, _ in runs):
        yield runs
        return
    current: list[Run] = []
    for text, style in runs:
        head, *tail = text.split("\n")
        current.append((head, style))
        for piece in tail:
            yield tuple(current)
            current = [(piece, style)]
    yield tuple(current)


def _row_ends(text: str, width: int) -> Iterator[int]:
    """The character offsets at which the rows of `text` end."""
    used = 0
    for match in _PIECE.finditer(text):
        piece = match.group()
        cells = cell_len(piece)
        if used and used + cells > width:
            yield match.start()
            piece = piece.lstrip(" ")
            used, cells = 0, cell_len(piece)
        if cells > width:
            end = match.end() - len(piece)
            *full, last = chop_cells(piece, width)
            for chopped in full:
                end += len(chopped)
                yield end
            cells = cell_len(last)
        used += cells
    yield len(text)


def _cut(runs: Iterable[Run], start: int, end: int) -> Row:
    """The characters from `start` to `end`, styles kept."""
    row: list[Run] = []
    position = 0
    for text, style in runs:
        piece = text[max(0, start - position) : max(0, end - position)]
        if piece:
            row.append((piece, style))
        position += len(text)
    return tuple(row)
