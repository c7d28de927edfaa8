"""The order of an epoch: which rows make which step, the same on every backend.

Pure functions of lengths, classes and a seed. Order comes from a hash, not from a random
generator whose stream may change with NumPy's version, so that a run can be resumed
anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import NamedTuple

import numpy as np

LOOKAHEAD = 64  # rows that may be drawn forward to fill a packed row to the brim
STRIDE = 64  # columns come in multiples of it, so that few shapes occur
WINDOW = 16  # steps within which rows without packing are sorted by length


class MicroBatch(NamedTuple):
    """`groups` of row numbers, one group for each row of the batch, `columns` wide."""

    groups: tuple[tuple[int, ...], ...]
    columns: int


Step = tuple[MicroBatch, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """How rows become batches.

    A step holds about `tokens_per_step` tokens, in micro-batches of at most
    `tokens_per_batch` positions (rows times columns; a longer row is alone). `packing`
    fills rows of `columns` with several conversations; without it a row is one.
    """

    tokens_per_step: int
    tokens_per_batch: int
    columns: int
    packing: bool = True


def plan_epoch(
    lengths: np.ndarray, classes: np.ndarray, seed: int, epoch: int, layout: Layout
) -> list[Step]:
    """The steps of an epoch, in order: every row once.

    `lengths` and `classes` (rows,) are in tokens and class indices. Each step has about the
    data's share of every class, as far as it has room for that many conversations.
    Raises ValueError if a row is longer than `layout.columns`.
    """
    lengths, classes = np.asarray(lengths, np.int64), np.asarray(classes, np.int64)
    if len(lengths) and lengths.max() > layout.columns:
        raise ValueError(f"a row of {lengths.max()} tokens exceeds {layout.columns} columns")
    hashes = _hashes(len(lengths), seed, epoch)
    order = np.lexsort((hashes, _places(lengths, classes, hashes)))
    if layout.packing:
        return _packed(order, lengths, layout)
    return _bucketed(order, lengths, classes, layout)


@dataclass(frozen=True, slots=True)
class Efficiency:
    """What a plan makes of its positions: `filled` is the share that holds tokens.

    `mixed` is the share of steps in which every class of the data occurs.
    """

    steps: int
    filled: float
    mixed: float


def efficiency(steps: Sequence[Step], lengths: np.ndarray, classes: np.ndarray) -> Efficiency:
    """The figures of a plan."""
    positions = sum(len(batch.groups) * batch.columns for step in steps for batch in step)
    whole = len(np.unique(classes))
    mixed = [len(np.unique(classes[rows_of(step)])) == whole for step in steps]
    return Efficiency(
        len(steps),
        int(np.sum(lengths)) / positions if positions else 1.0,
        sum(mixed) / len(mixed) if mixed else 1.0,
    )


def rows_of(step: Step) -> list[int]:
    """The row numbers of a step."""
    return [row for batch in step for group in batch.groups for row in group]


def _hashes(count: int, seed: int, epoch: int) -> np.ndarray:
    """(count,) uint64, one a row: splitmix64 (Steele, Lea and Flood, 2014)."""
    with np.errstate(over="ignore"):
        state = np.arange(count, dtype=np.uint64)
        for key in (seed, epoch):
            state = state + np.uint64(key & (2**64 - 1)) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state ^= state >> np.uint64(31)
    return state


def _places(lengths: np.ndarray, classes: np.ndarray, key: np.ndarray) -> np.ndarray:
    """(rows,) float64 from 0 to 1: where the middle of a row stands among the tokens of its
    class, ordered by `key`. Rows in order of place are mixed: every stretch of them has
    the data's share of each class, by tokens."""
    places = np.empty(len(lengths))
    for index in np.unique(classes):
        members = np.flatnonzero(classes == index)
        members = members[np.argsort(key[members], kind="stable")]
        ends = np.cumsum(lengths[members])
        places[members] = (ends - lengths[members] / 2) / max(ends[-1], 1)
    return places


def _packed(order: np.ndarray, lengths: np.ndarray, layout: Layout) -> list[Step]:
    groups = list(_groups(order.tolist(), lengths.tolist(), layout.columns))
    per_step = max(layout.tokens_per_step // layout.columns, 1)
    per_batch = max(layout.tokens_per_batch // layout.columns, 1)
    count = -(-len(groups) // per_step)
    # Evenly, so that no step of a few tokens ends the epoch.
    bounds = [len(groups) * step // count for step in range(count + 1)] if count else [0]
    steps = []
    for start, end in pairwise(bounds):
        batches = (groups[i : min(i + per_batch, end)] for i in range(start, end, per_batch))
        steps.append(tuple(_packed_batch(batch, lengths, layout.columns) for batch in batches))
    return steps


def _groups(order: list[int], size: list[int], columns: int) -> Iterator[tuple[int, ...]]:
    """Rows in about their order, in groups that fill `columns`."""
    coming = iter(order)
    waiting = list(islice(coming, LOOKAHEAD + 1))
    while waiting:
        first, *ahead = waiting  # whoever is next goes next: nothing waits for ever
        chosen = _fullest([size[row] for row in ahead], columns - size[first])
        yield (first, *(ahead[position] for position in chosen))
        taken = {*chosen}
        waiting = [row for position, row in enumerate(ahead) if position not in taken]
        waiting += islice(coming, LOOKAHEAD + 1 - len(waiting))


def _packed_batch(
    groups: Sequence[tuple[int, ...]], lengths: np.ndarray, columns: int
) -> MicroBatch:
    longest = max(int(lengths[list(group)].sum()) for group in groups)
    return MicroBatch(tuple(groups), min(-(-longest // STRIDE) * STRIDE, columns))


def _fullest(sizes: Sequence[int], room: int) -> list[int]:
    """The positions, ascending, of those `sizes` whose sum comes closest to `room` from
    below; of equal sums, one that leaves later ones out.

    Dynamic programming over the bits of integers: bit s of `reached[k]` says that some
    of the first k sizes sum to s.
    """
    mask = (1 << (room + 1)) - 1
    reached = [1]
    for size in sizes:
        reached.append((reached[-1] | reached[-1] << size) & mask)
        if reached[-1] >> room:
            break
    total = reached[-1].bit_length() - 1
    chosen = []
    for position in range(len(reached) - 2, -1, -1):
        if not reached[position] >> total & 1:
            chosen.append(position)
            total -= sizes[position]
    return chosen[::-1]


def _bucketed(
    order: np.ndarray, lengths: np.ndarray, classes: np.ndarray, layout: Layout
) -> list[Step]:
    """Within a window of steps, rows of like lengths share a step: each class by its own
    ranks of length, so that the steps stay mixed."""
    steps: list[Step] = []
    for window in _by_tokens(order, lengths, layout.tokens_per_step * WINDOW):
        size = lengths[window]
        ranked = np.argsort(_places(size, classes[window], size), kind="stable")
        parts = _by_tokens(ranked, size, layout.tokens_per_step)
        parts.sort(key=min)  # the step with the window's first row goes first, not the shortest
        steps += (_rows_by_length(window[part], lengths, layout) for part in parts)
    return steps


def _rows_by_length(rows: np.ndarray, lengths: np.ndarray, layout: Layout) -> Step:
    batches: list[MicroBatch] = []
    group: list[tuple[int, ...]] = []
    for row in rows[np.argsort(-lengths[rows], kind="stable")].tolist():
        columns = int(lengths[group[0][0]]) if group else 0
        if group and (len(group) + 1) * columns > layout.tokens_per_batch:
            batches.append(MicroBatch(tuple(group), columns))
            group = []
        group.append((row,))
    batches.append(MicroBatch(tuple(group), int(lengths[group[0][0]])))
    return tuple(batches)


def _by_tokens(rows: np.ndarray, lengths: np.ndarray, tokens: int) -> list[np.ndarray]:
    """`rows` cut into the fewest stretches of about equal tokens, none much over `tokens`."""
    ends = np.cumsum(lengths[rows])
    if not len(ends):
        return []
    count = -(-int(ends[-1]) // tokens)
    middle = ends - lengths[rows] / 2
    part = np.minimum((middle * count / ends[-1]).astype(np.int64), count - 1)
    return [rows[part == index] for index in range(count) if (part == index).any()]
