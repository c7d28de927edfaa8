"""What a reply thought before it answered: one line, and opened all of it, set off by a bar."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from openchat_local.app.chats.thoughts import tokens_in_words
from openchat_local.app.tui.markdown.blocks import Block, TextBlock
from openchat_local.app.tui.markdown.layout import room
from openchat_local.app.tui.markdown.rows import Line, Row
from openchat_local.models.units import time_in_words

BAR = "│ "


class FoldLine(TextBlock):
    """The line that stands for what is folded below it; a click opens or folds it."""


class Aside:
    """A block of thoughts, dim and behind a bar. `leads` gives it a row with nothing but the bar
    above it, in place of a gap."""

    kind = "reply"
    gap = False

    def __init__(self, block: Block, *, leads: bool) -> None:
        self.wide = block.wide
        self.searchable = block.searchable
        self.source = block.source
        self._block = block
        self._leads = leads
        self._made: tuple[int, list[Row]] = (-1, [])

    def height(self, width: int) -> int:
        return len(self.rows(width))

    def rows(self, width: int) -> Sequence[Row]:
        if self._made[0] != width:
            inner = self._block.rows(self._inner(width))
            lead: list[Row] = [((BAR, "prefix"),)] if self._leads else []
            self._made = (width, [*lead, *map(_behind_bar, inner)])
        return self._made[1]

    def paragraphs(self, width: int) -> Sequence[int]:
        return [*([1] if self._leads else []), *self._block.paragraphs(self._inner(width))]

    def texts(self) -> Sequence[str] | None:
        own = self._block.texts()
        return None if own is None else [*([""] if self._leads else []), *own]

    def _inner(self, width: int) -> int:
        return max(2, room(self._block, width - len(BAR)))


def _behind_bar(row: Row) -> Row:
    before, runs = BAR, row
    if row and row[0][1] == "prefix":
        before, runs = BAR + row[0][0], row[1:]
    return ((before, "prefix"), *((text, f"{names} dim".strip()) for text, names in runs))


def asides(blocks: Iterable[Block], *, first: int = 0) -> list[Block]:
    """Blocks of thoughts, the first of which is number `first` of all."""
    return [Aside(block, leads=block.gap and n > 0) for n, block in enumerate(blocks, first)]


def fold_line(words: str, *, unfolded: bool, hint: bool = True) -> Block:
    """The line of thoughts: ▸ and what there is to say of them; with a `hint` of the key."""
    runs: Row = ((f"{'▾' if unfolded else '▸'} {words}", "dim"),)
    if hint:
        runs += ((f" · o or a click {'folds' if unfolded else 'opens'} it", "dim"),)
    return FoldLine([Line(runs)], searchable=False)


def thinking_in_words(tokens: int, seconds: float) -> str:
    """ "thinking… 213 tokens, 4 s", while it goes on."""
    figures = [tokens_in_words(tokens)] if tokens else []
    figures += [time_in_words(seconds)] if seconds >= 1 else []
    return f"thinking… {', '.join(figures)}".rstrip()
