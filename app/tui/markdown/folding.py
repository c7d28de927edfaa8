"""Long lines of code as several rows: broken where code may be, marked, and indented."""

from __future__ import annotations

from functools import lru_cache

from rich.cells import cell_len, chop_cells

MARK = "↪ "
"""Stands before every row that is not the beginning of its line."""
HANG = 2
NARROWEST = 16
"""In fewer cells there is no room for marks."""
_BREAKS = (" ", ",;", "([{)]}", "=+-*/.|&:")
"""After these a row may end, the best first."""

Cut = tuple[int, int, str]
"""First character, the one behind the last, and what stands before them."""


def fits(text: str, width: int) -> bool:
    """Whether a line of code is a single row."""
    return (len(text) if text.isascii() else cell_len(text)) <= max(2, width)


@lru_cache(maxsize=1024)
def cuts(text: str, width: int) -> tuple[Cut, ...]:
    """A line of code as rows of at most `width` cells, every character of it in one of them."""
    width = max(2, width)
    found: list[Cut] = []
    start, before = 0, ""
    while (most := _most(text, start, width - cell_len(before))) < len(text):
        end = _end(text, start, most)
        found.append((start, end, before))
        start, before = end, _before(text, width)
    return (*found, (start, len(text), before))


def _most(text: str, start: int, room: int) -> int:
    """The end of what fits into a row from `start` on. (What is twice as long does not.)"""
    piece = text[start : start + 2 * room]
    return start + (room if piece.isascii() else len((chop_cells(piece, room) or [""])[0]))


def _before(text: str, width: int) -> str:
    if width < NARROWEST:
        return ""
    indent = len(text) - len(text.lstrip(" "))
    return " " * min(indent + HANG, width // 3) + MARK


def _end(text: str, start: int, most: int) -> int:
    """Where a row ends that may go up to `most`: behind the last good place for it, if there is
    one in its second half; what is cut in the middle of a word is cut as late as possible."""
    indent = most - len(text[start:most].lstrip(" ")) + 1
    least = max(indent, start + (most - start) // 2)
    for characters in _BREAKS:
        place = max(text.rfind(each, least, most) for each in characters)
        if place >= 0:
            return place + 1
    return most
