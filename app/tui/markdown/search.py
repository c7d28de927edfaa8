"""Finding words in what stands on the screen, also where a row ends in the middle of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from openchat_local.app.tui.markdown.blocks import Block
from openchat_local.app.tui.markdown.layout import Section, room
from openchat_local.app.tui.markdown.rows import Row

# Where a row of a wrapped line ends. A private character, since texts hold any other.
_SOFT = "\U0010fffd"
KEPT_BLOCKS = 2_000


Rows = tuple[tuple[int, int, int], ...]
"""Where a hit stands: (row of its block, first character, the one behind its last)."""


class Span(NamedTuple):
    """A stretch of a row, in characters; `current` is the hit that was jumped to."""

    start: int
    end: int
    current: bool = False


class Hit(NamedTuple):
    """The `ordinal`-th hit of a section, in its block number `block`."""

    block: int
    ordinal: int
    rows: Rows


class Finder:
    """Looks for `words`, whatever their case, in sections that are laid out."""

    def __init__(self, words: str) -> None:
        self.words = words
        self._pattern = _pattern(words)
        self._letters = _letters(words)
        self._current: tuple[str, int] | None = None
        self._known: dict[tuple[Block, int], list[Rows]] = {}

    def may_be_in(self, source: str) -> bool:
        """False if the words surely do not stand in a message with this Markdown source.

        Marks of Markdown may stand between the letters of what is read as one word.
        """
        return "&" in source or self._letters in _letters(source)

    def hits(self, section: Section, width: int) -> list[Hit]:
        """The hits in a section, from top to bottom, laid out for `width` cells."""
        found: list[Hit] = []
        for number, block in enumerate(section.blocks):
            for spans in self._in_block(block, width):
                found.append(Hit(number, len(found), spans))
        return found

    def point_at(self, key: str | None, ordinal: int = 0) -> None:
        """Make this hit of this section the current one; None for none."""
        self._current = None if key is None else (key, ordinal)

    def spans(self, section: Section, number: int, row: int) -> tuple[Span, ...]:
        """What of row `row` of a section's block `number` is to be marked."""
        width = section.width
        found = self._in_block(section.blocks[number], width)
        if not any(hit[0][0] <= row <= hit[-1][0] for hit in found):
            return ()
        current = -1
        if self._current is not None and self._current[0] == section.key:
            before = sum(len(self._in_block(block, width)) for block in section.blocks[:number])
            current = self._current[1] - before
        return tuple(
            Span(start, end, index == current)
            for index, hit in enumerate(found)
            for at, start, end in hit
            if at == row
        )

    def _in_block(self, block: Block, width: int) -> list[Rows]:
        if not block.searchable:
            return []
        known = self._known.get((block, width))
        if known is None:
            if len(self._known) > KEPT_BLOCKS:
                self._known.clear()
            known = self._known[block, width] = list(self._search(block, width))
        return known

    def _search(self, block: Block, width: int) -> Iterator[Rows]:
        inner = room(block, width)
        rows = block.rows(inner)
        shift = 1 if block.kind == "code" else 0  # painted with a free cell in front
        first = 0
        for count in block.paragraphs(inner):
            yield from _in_paragraph(self._pattern, rows[first : first + count], first, shift)
            first += count


def _in_paragraph(
    pattern: re.Pattern[str], rows: Sequence[Row], first: int, shift: int
) -> Iterator[Rows]:
    """The hits in the rows that one line was broken into, the first of them row `first`."""
    prefixes = [prefix_length(row) for row in rows]
    texts = [
        "".join(text for text, _ in row)[start:] for row, start in zip(rows, prefixes, strict=True)
    ]
    for match in pattern.finditer(_SOFT.join(texts)):
        spans: list[tuple[int, int, int]] = []
        position = 0
        for number, text in enumerate(texts):
            start = max(0, match.start() - position)
            end = min(len(text), match.end() - position)
            if start < end:
                before = prefixes[number] + shift
                spans.append((first + number, before + start, before + end))
            position += len(text) + 1
        if spans:
            yield tuple(spans)


def prefix_length(row: Row) -> int:
    """How many characters of a row are a bar or a bullet and not its text."""
    return len(row[0][0]) if row and row[0][1] == "prefix" else 0


def _pattern(words: str) -> re.Pattern[str]:
    """Words match in any case; a blank matches any white space, and rows may end anywhere."""
    parts = [
        rf"[\s{_SOFT}]+" if letter.isspace() else re.escape(letter)
        for letter in " ".join(words.split())
    ]
    return re.compile(f"{_SOFT}?".join(parts), re.IGNORECASE)


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))
