"""Sections of blocks one below the other, and which row is whose."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from openchat_local.app.tui.markdown.blocks import Block
from openchat_local.app.tui.markdown.rows import Row

READING_WIDTH = 100
"""Cells beyond which the eye does not find the next row of a text."""


class Section:
    """The blocks of one message. `key` names it; a `faded` one is painted grey; `source` is what
    is copied in place of all of it."""

    def __init__(
        self,
        key: str,
        blocks: Iterable[Block],
        *,
        faded: bool = False,
        source: str | None = None,
    ) -> None:
        self.key = key
        self.source = source
        self.blocks = list(blocks)
        self.faded = faded
        self._tops = [0]
        self._width = 0

    @property
    def width(self) -> int:
        """The cells it was laid out for; 0 before that."""
        return self._width

    @property
    def height(self) -> int:
        """How many rows it takes; 0 before it was laid out."""
        return self._tops[-1]

    def lay_out(self, width: int) -> None:
        """Place the blocks for a width in cells; does nothing when that is done."""
        if width != self._width:
            self._width = width
            self._place(0)

    def put(self, first: int, blocks: Iterable[Block]) -> int:
        """Put `blocks` in place of everything from block number `first` on; returns the row
        where the change begins."""
        self.blocks[first:] = blocks
        if self._width:
            self._place(first)
        return self._tops[min(first, len(self._tops) - 1)]

    def block_at(self, row: int) -> tuple[int, int]:
        """The number of the block on `row`, and the row in it: -1 on the gap above it."""
        number = min(bisect_right(self._tops, row), len(self.blocks)) - 1
        return number, row - self._tops[number] - self.blocks[number].gap

    def row_of(self, number: int, row: int) -> int:
        """The row of the section on which row `row` of block `number` stands."""
        return self._tops[number] + self.blocks[number].gap + row

    def rows(self, number: int) -> Sequence[Row]:
        """The rows of block `number`."""
        block = self.blocks[number]
        return block.rows(room(block, self._width))

    def _place(self, first: int) -> None:
        del self._tops[first + 1 :]
        for block in self.blocks[first:]:
            height = block.height(room(block, self._width))
            self._tops.append(self._tops[-1] + block.gap + height)


class Place(NamedTuple):
    """What stands on a row of the layout: row `row` of block `block` of section `section`.

    `row` is -1 on the blank row above a block; `section` is -1 below everything.
    """

    section: int
    block: int
    row: int


NOWHERE = Place(-1, 0, -1)


@dataclass(frozen=True, slots=True)
class Anchor:
    """A place that survives a change of width or of what stands above: a section's key and
    the row in it."""

    key: str
    row: int


class Layout:
    """The sections that are laid out, at one width. Changing one never costs a look into
    another."""

    def __init__(self) -> None:
        self.sections: list[Section] = []
        self.width = 0
        self._tops = [0]

    @property
    def rows(self) -> int:
        """How many rows everything takes together."""
        return self._tops[-1]

    def lay_out(self, width: int) -> None:
        """Place everything for a width in cells."""
        self.width = width
        self._place(0)

    def replace(self, first: int, last: int, sections: Iterable[Section]) -> int:
        """Put `sections` in place of those from number `first` up to `last`; returns the row
        where the change begins."""
        self.sections[first:last] = sections
        self._place(first)
        return self._tops[first]

    def grow(self, number: int, first: int, blocks: Iterable[Block]) -> int:
        """Put `blocks` in place of everything from block `first` of a section on; returns the
        row where the change begins."""
        row = self.sections[number].put(first, blocks)
        self._place(number)
        return self._tops[number] + row

    def _place(self, first: int) -> None:
        del self._tops[first + 1 :]
        for section in self.sections[first:]:
            if self.width:
                section.lay_out(self.width)
            self._tops.append(self._tops[-1] + section.height)

    def number(self, key: str) -> int:
        """The number of the last section of this name; -1 if there is none."""
        for number in range(len(self.sections) - 1, -1, -1):
            if self.sections[number].key == key:
                return number
        return -1

    def span(self, number: int) -> tuple[int, int]:
        """The first row of a section and the one behind its last."""
        return self._tops[number], self._tops[number + 1]

    def place(self, row: int) -> Place:
        """What stands on a row."""
        if not 0 <= row < self.rows:
            return NOWHERE
        number = bisect_right(self._tops, row) - 1
        block, within = self.sections[number].block_at(row - self._tops[number])
        return Place(number, block, within)

    def runs(self, place: Place) -> tuple[Row, str]:
        """The runs of a row and the kind of its block; of a blank row nothing and ""."""
        if place.row < 0:
            return (), ""
        section = self.sections[place.section]
        kind = section.blocks[place.block].kind
        runs = section.rows(place.block)[place.row]
        return ((" ", ""), *runs) if kind == "code" else runs, kind

    def anchor(self, row: int) -> Anchor | None:
        """The section on a row, or the last one, and the row in it."""
        if not self.sections:
            return None
        number = min(bisect_right(self._tops, row), len(self.sections)) - 1
        return Anchor(self.sections[number].key, row - self._tops[number])

    def row_of(self, anchor: Anchor) -> int:
        """Where an anchor is now; 0 if its section is gone."""
        number = self.number(anchor.key)
        return 0 if number < 0 else self._tops[number] + anchor.row


def room(block: Block, width: int) -> int:
    """The cells that a block's rows may take: code has one free cell on either side, and a text
    is no wider than a page."""
    if block.kind == "code":
        return max(2, width - 2)
    return width if block.wide else min(width, READING_WIDTH)
