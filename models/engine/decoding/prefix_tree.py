"""Token sequences that begin alike, as rows to be evaluated: every common prefix once.

Pure planning, without llama.cpp. In sorted order neighbours share the longest prefixes, so
that walking through the tree of all paths depth first is walking through a sorted list: what
a path has in common with the one before is in the cache already.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Path:
    """`ids` to be evaluated. The logits of row `first + i` are to be judged by `targets[i]`,
    the token that comes next, where that is not None; there are as many rows from `first` on as
    targets."""

    ids: tuple[int, ...]
    first: int
    targets: Sequence[int | None]


@dataclass(frozen=True, slots=True)
class Row:
    """A token at its position in all of `slots`, which share it. `wanted` are the paths, by
    their number, and the index of the target, that its logits are for."""

    token: int
    position: int
    slots: tuple[int, ...]
    wanted: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Group:
    """Paths that are in the cache at once. `kept` says for each slot how many tokens it takes
    over of what `trunk` holds, a slot of the group before; everything else is dropped then."""

    trunk: int
    kept: Sequence[tuple[int, int]]
    rows: Sequence[Row]


@dataclass(slots=True)
class _Walk:
    """A path in its place: `shared` tokens are as in the one before; those after are its own."""

    number: int
    path: Path
    shared: int
    wanted: dict[int, list[tuple[int, int]]] = field(default_factory=dict)

    @property
    def own(self) -> int:
        return len(self.path.ids) - self.shared


class Plan:
    """How `paths` are evaluated: `shared` says of each how many of its tokens are for another
    one already. Without `sharing`, for a cache that cannot be cut, every path is evaluated from
    its beginning."""

    def __init__(self, paths: Sequence[Path], *, sharing: bool = True) -> None:
        self._sharing = sharing
        self._walks = _walk(paths, sharing=sharing)
        self.shared = [0] * len(paths)
        for walk in self._walks:
            self.shared[walk.number] = walk.shared

    def groups(self, slots: int, cells: int, fresh: int) -> Iterator[Group]:
        """The rows of all paths, in groups that need at most `slots` sequences and `cells`
        cells at once, of which each fills about `fresh`; a path of more is alone in its group."""
        room = slots - 1 if self._sharing and slots > 1 else 1
        return _grouped(self._walks, slots, cells, fresh, room)


def _grouped(
    walks: Sequence[_Walk], slots: int, cells: int, fresh: int, room: int
) -> Iterator[Group]:
    trunk, start = 0, 0
    while start < len(walks):
        end, filled = start + 1, walks[start].own
        most = min(fresh, cells - walks[start].shared)
        while end < len(walks) and end - start < room and filled + walks[end].own <= most:
            filled += walks[end].own
            end += 1
        # The slot that holds the trunk is taken again once the others have their share.
        free = [slot for slot in range(slots) if slot != trunk or slots == 1]
        members = walks[start:end]
        taken = free[: len(members)]
        yield Group(trunk, _kept(members, taken), _rows(members, taken))
        trunk, start = taken[-1], end


def _walk(paths: Sequence[Path], *, sharing: bool) -> list[_Walk]:
    """All paths in sorted order, each with what the rows that it is the first to reach are
    wanted for, by their position."""
    order = sorted(((path.ids, number) for number, path in enumerate(paths)))
    walks: list[_Walk] = []
    owners: list[_Walk] = []  # of each token of the path so far
    before: tuple[int, ...] = ()
    for ids, number in order:
        path = paths[number]
        walk = _Walk(number, path, common_prefix(before, ids) if sharing else 0)
        del owners[walk.shared :]
        owners += [walk] * walk.own
        for index, target in enumerate(path.targets):
            if target is None:
                continue
            position = path.first + index
            owners[position].wanted.setdefault(position, []).append((number, index))
        walks.append(walk)
        before = ids
    return walks


def _kept(members: Sequence[_Walk], slots: Sequence[int]) -> list[tuple[int, int]]:
    kept, length = [], members[0].shared
    for walk, slot in zip(members, slots, strict=True):
        length = min(length, walk.shared)
        if length:
            kept.append((slot, length))
    return kept


def _rows(members: Sequence[_Walk], slots: Sequence[int]) -> list[Row]:
    rows = []
    for index, walk in enumerate(members):
        # The slots that share its tokens up to a length: those of the paths after it.
        sharing = [(len(walk.path.ids), 1)]
        length, others = len(walk.path.ids), 1
        for after in members[index + 1 :]:
            length = min(length, after.shared)
            if length <= walk.shared:
                break
            others += 1
            sharing.append((length, others))
        for position in range(walk.shared, len(walk.path.ids)):
            while len(sharing) > 1 and sharing[-1][0] <= position:
                sharing.pop()
            together = tuple(slots[index : index + sharing[-1][1]])
            wanted = walk.wanted.get(position, ())
            rows.append(Row(walk.path.ids[position], position, together, wanted))
    return rows


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many elements two sequences begin alike with."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
