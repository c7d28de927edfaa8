"""A table that grows: each of its rows is parsed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openchat_local.app.tui.markdown.blocks import TableBlock
from openchat_local.app.tui.markdown.parsing import Piece, parse
from openchat_local.app.tui.markdown.rows import Row


@dataclass(slots=True)
class GrowingTable:
    """The table that a text consists of. `head` is its first two lines, which say how every
    further line is to be read; `cells` are those of the complete lines, which are the first
    `taken` characters of the text."""

    head: str
    right_aligned: frozenset[int]
    cells: list[Sequence[Row]]
    taken: int

    @classmethod
    def found(cls, text: str, pieces: Sequence[Piece]) -> GrowingTable | None:
        """The table, if `pieces`, parsed from `text`, are nothing else."""
        if len(pieces) != 1 or not isinstance(block := pieces[0].block, TableBlock):
            return None
        first = pieces[0].line
        taken = text.rfind("\n") + 1
        complete = text.count("\n") - first - 1  # the header among them, the rule not
        if complete < 1 or len(block.cells) != complete + bool(text[taken:].strip()):
            return None
        head = "\n".join(text.split("\n", first + 2)[first : first + 2]) + "\n"
        return cls(head, block.right_aligned, list(block.cells[:complete]), taken)

    def grown(self, text: str) -> TableBlock | None:
        """The table that the longer `text` is; None if it is not only a table any more."""
        end = text.rfind("\n") + 1
        if end > self.taken:
            cells = self._read(text[self.taken : end])
            if cells is None:
                return None
            self.cells += cells
            self.taken = end
        rest = text[end:]
        if not rest.strip():
            return TableBlock(list(self.cells), self.right_aligned, text.strip("\n"))
        cells = self._read(rest)
        if cells is None:
            return None
        return TableBlock([*self.cells, *cells], self.right_aligned, text.strip("\n"))

    def _read(self, lines: str) -> Sequence[Sequence[Row]] | None:
        """The cells of further lines; None if they are not all rows."""
        pieces = parse(self.head + lines)
        if len(pieces) != 1 or not isinstance(block := pieces[0].block, TableBlock):
            return None
        cells = block.cells[1:]
        count = lines.count("\n") or 1
        return cells if len(cells) == count else None
