"""A reply as it grows: what is settled stays, what may still change is made anew."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from openchat_local.app.tui.markdown.blocks import Block, CodeBlock
from openchat_local.app.tui.markdown.parsing import Item, parse
from openchat_local.app.tui.markdown.table import GrowingTable

# Lines of code coloured together. Cut at a blank line when there is one, so that a
# string or comment over several lines is seldom split.
SEGMENT_LINES = 16
SEGMENT_LIMIT = 40

_FENCE = re.compile(r"^ {0,3}(?P<mark>`{3,}(?=[^`\n]*$)|~{3,})(?P<info>[^\n]*)\n", re.MULTILINE)


@dataclass(slots=True)
class _Fence:
    mark: str
    language: str
    lines: list[str] = field(default_factory=list)
    first: bool = True

    def is_mark(self, line: str) -> bool:
        """Whether nothing but the fence's own character stands on the line."""
        return bool(re.fullmatch(rf" {{0,3}}{self.mark[0]}+[ \t]*", line))

    def is_closed_by(self, line: str) -> bool:
        return self.is_mark(line) and len(line.strip()) >= len(self.mark)


class Document:
    """Markdown that is appended to. Its blocks depend on the text alone, never on how the
    text was cut into pieces."""

    def __init__(self, source: str = "") -> None:
        self.blocks: list[Block] = []
        self._settled = 0
        self._tail = ""
        self._fence: _Fence | None = None
        self._table: GrowingTable | None = None  # the one that `_tail` is
        self._item: Item | None = None  # the one `_tail` begins with, inside a list
        if source:
            self.append(source)

    def append(self, text: str) -> int:
        """Take more text; returns the number of the first block that changed."""
        changed = self._settled
        del self.blocks[changed:]
        self._tail += text
        while self._step():
            pass
        return changed

    def _step(self) -> bool:
        """Settle what can be settled up to the next fence's edge; True to be called again."""
        if self._fence is not None:
            return self._read_code(self._fence)
        opening = _FENCE.search(self._tail)
        if opening is None:
            self._read_text()
            return False
        self.blocks += [p.block for p in parse(self._tail[: opening.start()], self._item)]
        self._item = self._table = None
        self._settled = len(self.blocks)
        language = (opening["info"].split() or [""])[0]
        self._fence = _Fence(opening["mark"], language)
        self._tail = self._tail[opening.end() :]
        return True

    def _read_text(self) -> None:
        """Settle what is complete, and show the rest."""
        if self._table is not None and (block := self._table.grown(self._tail)) is not None:
            self.blocks.append(block)
            return
        # One parse where there is one block, which a blank line makes unlikely.
        pieces = parse(self._tail, self._item) if "\n\n" not in self._tail else []
        if len(pieces) != 1:
            self._settle_text()
            pieces = parse(self._tail, self._item)
        self._table = GrowingTable.found(self._tail, pieces)
        self.blocks += [piece.block for piece in pieces]

    def _settle_text(self) -> None:
        """Settle every block but the last of the complete lines."""
        complete = self._tail.rfind("\n") + 1
        pieces = parse(self._tail[:complete], self._item)
        if len(pieces) > 1:
            self.blocks += [piece.block for piece in pieces[:-1]]
            self._settled = len(self.blocks)
            self._item = pieces[-1].item
            self._tail = "\n".join(self._tail.split("\n")[pieces[-1].line :])

    def _read_code(self, fence: _Fence) -> bool:
        *complete, self._tail = self._tail.split("\n")
        for number, line in enumerate(complete):
            if fence.is_closed_by(line):
                self._settle_code(fence)
                self._fence = None
                self._tail = "\n".join([*complete[number + 1 :], self._tail])
                return True
            fence.lines.append(line.expandtabs(4))
            size = len(fence.lines)
            if size >= SEGMENT_LIMIT or (size >= SEGMENT_LINES and not line.strip()):
                self._settle_code(fence)
        # What may become the closing fence, or is it at the very end of a reply, is no code.
        closes = fence.is_mark(self._tail)
        unfinished = [self._tail.expandtabs(4)] if self._tail and not closes else []
        if fence.lines or unfinished or fence.first:
            self.blocks.append(
                CodeBlock([*fence.lines, *unfinished], fence.language, gap=fence.first)
            )
        return False

    def _settle_code(self, fence: _Fence) -> None:
        if fence.lines or fence.first:
            self.blocks.append(CodeBlock(fence.lines, fence.language, gap=fence.first))
            fence.lines, fence.first = [], False
        self._settled = len(self.blocks)
