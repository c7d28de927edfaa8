"""Which tokens the cells of a context hold: sequences that are kept, found again, and shared."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openchat_local.models.engine.decoding.cells import Cells
from openchat_local.models.engine.decoding.llamacpp import Context
from openchat_local.models.engine.decoding.prefix_tree import common_prefix
from openchat_local.models.engine.states import StateStore


@dataclass(eq=False, slots=True)
class CachedSequence:
    """A sequence and its tokens, computed under one adapter.

    `chunks` are the spans [start, end) that were decoded several rows at once. The first
    `exact` tokens are, to the last bit, what a context of their own would hold. `chat_key` is
    the chat whose they are; it was `left` by its reader, or not, and is `unsaved` while the
    disk (`states`) has less. `live` ones are being worked on. `reserved` cells are still to be
    filled.
    """

    id: int
    adapter: str
    tokens: list[int] = field(default_factory=list)
    chunks: list[tuple[int, int]] = field(default_factory=list)
    exact: int = 0
    chat_key: str | None = None
    left: bool = False
    unsaved: bool = False
    live: bool = True
    last_use: int = 0
    reserved: int = 0
    states: StateStore | None = None

    def whole_chunks(self, length: int) -> int:
        """The most of the first `length` tokens that no chunk is cut by."""
        number = bisect.bisect_left(self.chunks, (length,)) - 1
        if number >= 0 and length < self.chunks[number][1]:
            return self.chunks[number][0]
        return length


class SequencePool:
    """The sequences of one context. Idle ones stay, for whoever comes with the same beginning,
    until their cells or their number are needed; then the least recently used goes first.

    A sequence is exact as long as it is the only one: its cells are then those it would have
    in a context of its own.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.size = context.size
        self.sequences: list[CachedSequence] = []
        self.dropping: Callable[[CachedSequence], None] = lambda sequence: None
        self.cells = Cells()
        self._reserved = 0
        self._clock = itertools.count(1)
        self._gaps = False

    @property
    def free(self) -> int:
        """Cells that nobody has or was promised."""
        return self.size - self.cells.used - self._reserved

    @property
    def used(self) -> int:
        """Cells that hold something; those that sequences share count once."""
        return self.cells.used

    def longest_prefix(self, ids: Sequence[int], adapter: str) -> tuple[CachedSequence | None, int]:
        """The sequence under `adapter` that has most of `ids`' beginning, and how much; the
        last id is always left to evaluate, for its logits."""
        best, most = None, 0
        for sequence in self.sequences:
            if sequence.adapter == adapter:
                shared = min(common_prefix(sequence.tokens, ids), len(ids) - 1)
                if shared > most or (shared == most > 0 and best is not None and best.live):
                    best, most = sequence, shared
        return best, most

    # Taking a sequence

    def take(
        self,
        ids: Sequence[int],
        adapter: str,
        chat_key: str | None = None,
        *,
        exact: bool = False,
        headroom: int = 0,
    ) -> CachedSequence | None:
        """A live sequence whose tokens are a beginning of `ids`, with cells reserved for the
        rest; None where there is no room for it now. `headroom` more cells must be free where
        others are live. Where it is to be `exact`, no other sequence stays.
        """
        sequence = (
            self._exact(ids, adapter) if exact else self._shared(ids, adapter, chat_key, headroom)
        )
        if sequence is None:
            return None
        sequence.live = True
        sequence.reserved = len(ids) - len(sequence.tokens)
        self._reserved += sequence.reserved
        self._belongs_to(sequence, chat_key)
        return sequence

    def _exact(self, ids: Sequence[int], adapter: str) -> CachedSequence | None:
        if self.any_live:
            return None
        best, most = None, 0
        for sequence in () if self._gaps else self.sequences:
            if sequence.adapter == adapter:
                shared = min(common_prefix(sequence.tokens, ids), len(ids) - 1, sequence.exact)
                shared = sequence.whole_chunks(shared)
                if shared > most:
                    best, most = sequence, shared
        if best is None:
            self.clear()
            return self._new(adapter)
        for other in [other for other in self.sequences if other is not best]:
            self.drop(other)
        return best if self.cut(best, most) else self._new(adapter)

    def _shared(
        self, ids: Sequence[int], adapter: str, chat_key: str | None, headroom: int
    ) -> CachedSequence | None:
        best, shared = self.longest_prefix(ids, adapter)
        if alone := not self.any_live:
            headroom = 0
            self._make_way(best, adapter)
        if best is not None and not best.live and self._may_take_over(best, shared, chat_key):
            return self._taken_over(best, shared, len(ids), headroom)
        needed = len(ids) + headroom
        if best is not None and self.make_room(needed - shared, number=True, spare=best):
            copied = self._new(adapter)
            self.context.share(best.id, copied.id, shared)
            self.cells.share(best.id, copied.id, shared)
            copied.tokens = best.tokens[:shared]
            if alone and best.left:
                self.drop(best)
            return copied
        if best is not None and not best.live:
            return self._taken_over(best, shared, len(ids), headroom)
        return self._new(adapter) if self.make_room(needed, number=True) else None

    def _make_way(self, best: CachedSequence | None, adapter: str) -> None:
        """Drop what nobody comes back to before somebody begins who is alone: each row looks at
        all cells up to the last that is in use, whoever's they are (2,400 idle ones cost the
        starter a third of its speed). What a chat was left with is on disk; what is no chat's
        stays for an adapter that comes back."""
        for sequence in self.sequences[:]:
            over = sequence.left or (sequence.chat_key is None and sequence.adapter == adapter)
            if over and sequence is not best and not sequence.live:
                self.drop(sequence)

    def _may_take_over(self, best: CachedSequence, shared: int, chat_key: str | None) -> bool:
        """Whether the rest of `best` is no loss: its chat has moved on, or little is lost."""
        if not self.context.model.cuttable or best.chat_key == chat_key is not None:
            return True
        little = len(best.tokens) - shared <= shared
        return best.chat_key is None and (little or not self.any_live)

    def _taken_over(
        self, best: CachedSequence, shared: int, wanted: int, headroom: int
    ) -> CachedSequence | None:
        # So that it stays exact, as that of somebody who is alone always is.
        if len(self.sequences) == 1 and best.exact >= shared:
            shared = best.whole_chunks(shared)
        if not self._can_make_room(wanted + headroom - shared, spare=best, kept=shared):
            return None
        if not self.cut(best, shared):
            best = self._new(best.adapter)
        self.make_room(wanted + headroom - len(best.tokens), spare=best)
        return best

    def _belongs_to(self, sequence: CachedSequence, chat_key: str | None) -> None:
        if chat_key is not None:
            for other in self.sequences:
                if other is not sequence and (other.chat_key, other.adapter) == (
                    chat_key,
                    sequence.adapter,
                ):
                    other.chat_key = None  # a branch that the chat has left behind
        sequence.chat_key = chat_key
        sequence.left, sequence.unsaved = False, True

    def restore(
        self,
        path: Path,
        tokens: list[int],
        chunks: Iterable[Sequence[int]],
        adapter: str,
        *,
        exact: int,
        alone: bool,
    ) -> CachedSequence | None:
        """A sequence with a state from the disk; None where there is no room, or it is not what
        it should be. Where it is to be `alone` no other stays, so that `exact` tokens of it
        are exact again.
        """
        if alone and not self.any_live:
            self.clear()
        if not self.make_room(len(tokens), number=True):
            return None
        sequence = self._new(adapter)
        if not self.context.load_state(path, sequence.id, tokens):
            self.drop(sequence)
            return None
        if len(self.sequences) == 1 and not self._gaps:
            sequence.exact = exact
        else:
            self._gaps = True  # a state goes where it finds cells in a row, past others
        sequence.tokens = list(tokens)
        sequence.chunks = [(start, end) for start, end in chunks]
        self.cells.grow(sequence.id, len(tokens))
        sequence.live = False
        return sequence

    def _new(self, adapter: str) -> CachedSequence:
        taken = {sequence.id for sequence in self.sequences}
        number = next(id for id in range(self.context.sequences) if id not in taken)
        sequence = CachedSequence(number, adapter, last_use=next(self._clock))
        self.sequences.append(sequence)
        return sequence

    # Growing, cutting, giving back

    def decoded(self, sequence: CachedSequence, ids: Sequence[int], *, exact: bool = True) -> None:
        """`ids` were appended in one batch; `exact` where they were alone in it and their number
        follows from the request and their position."""
        count, before = len(ids), len(sequence.tokens)
        if count > 1:
            sequence.chunks.append((before, before + count))
        sequence.tokens.extend(ids)
        if exact and sequence.exact == before and len(self.sequences) == 1 and not self._gaps:
            sequence.exact = before + count
        if sequence.reserved:
            promised = min(count, sequence.reserved)
            sequence.reserved -= promised
            self._reserved -= promised
        self.cells.grow(sequence.id, count)

    def cut(self, sequence: CachedSequence, length: int) -> bool:
        """Keep the first `length` tokens; False where the cache cannot be cut, and then the
        sequence is gone."""
        if length >= len(sequence.tokens):
            return True
        if not self.context.cut(sequence.id, length):
            self.drop(sequence)
            return False
        self.cells.cut(sequence.id, length)
        del sequence.tokens[length:]
        while sequence.chunks and sequence.chunks[-1][1] > length:
            sequence.chunks.pop()
        sequence.exact = min(sequence.exact, length)
        return True

    def idle(self, sequence: CachedSequence) -> None:
        """Nobody works on it any more; it stays for the next who can use it."""
        self._reserved -= sequence.reserved
        sequence.reserved, sequence.live = 0, False
        sequence.last_use = next(self._clock)
        if not sequence.tokens and sequence in self.sequences:
            self.drop(sequence)

    def drop(self, sequence: CachedSequence) -> None:
        """Give its cells and its number back."""
        self.dropping(sequence)
        self._reserved -= sequence.reserved
        sequence.reserved = 0
        if not self.context.cut(sequence.id, 0):
            self.context.clear()  # there is one sequence where even that is refused
        self.cells.cut(sequence.id, 0)
        sequence.tokens, sequence.chunks, sequence.exact = [], [], 0
        self.sequences.remove(sequence)
        if not self.sequences:
            self.clear()

    def clear(self) -> None:
        """Empty the context."""
        while self.sequences:
            self.drop(self.sequences[-1])
        self.context.clear()
        self._gaps = False

    def make_room(
        self, cells: int, *, number: bool = False, spare: CachedSequence | None = None
    ) -> bool:
        """Drop idle sequences, but not `spare`, until so many cells are free and, if asked
        for, a sequence's number is; False, with nothing dropped, where that is not enough."""
        if not self._can_make_room(cells, number=number, spare=spare):
            return False
        idle = [one for one in self.sequences if not one.live and one is not spare]
        for sequence in sorted(idle, key=lambda one: one.last_use):
            if self.free >= cells and not (number and self._numbers_gone):
                break
            self.drop(sequence)
        return True

    def _can_make_room(
        self,
        cells: int,
        *,
        number: bool = False,
        spare: CachedSequence | None = None,
        kept: int | None = None,
    ) -> bool:
        staying = [one for one in self.sequences if one.live or one is spare]
        if number and len(staying) >= self.context.sequences:
            return False
        cut = None if spare is None or kept is None else (spare.id, kept)
        held = self.cells.held((one.id for one in staying if cut is None or one is not spare), cut)
        return self.size - self._reserved - held >= cells

    @property
    def any_live(self) -> bool:
        return any(sequence.live for sequence in self.sequences)

    @property
    def _numbers_gone(self) -> bool:
        return len(self.sequences) >= self.context.sequences
