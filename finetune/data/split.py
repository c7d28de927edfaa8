"""Which conversations are held out for validation: by their own hashes, and not too many."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from openchat_local.finetune.data.survey import Survey

# Of every class that has ten times as many: the best checkpoint is chosen by them.
LEAST_HELD_OUT = 8
# A class of so many gives one at least: rated chats make few conversations, and an adapter that
# only bad answers were tried on would be kept or thrown away for the wrong reason.
ENOUGH_TO_GIVE_ONE = 4
# Of every class, what may be held out at most: so much, or twice the share that was wished.
MOST_HELD_OUT = 0.1


class HeldOut(NamedTuple):
    """(conversations,) bool: those held out, and those of openings so common that they were
    chosen one by one, whatever else begins as they do."""

    chosen: np.ndarray
    common: np.ndarray


def hold_out(found: Survey, kept: np.ndarray, share: float) -> HeldOut:
    """About `share` of the conversations that are `kept`, (conversations,) bool.

    It hangs on the opening alone, up to the first reply: whatever else is in the file and in
    whatever order, and two answers to one question are never parted. Two things make an
    exception. An opening with more of a class than may be held out of it is chosen from by
    the hash of the whole conversation. And a class of which the hashes leave too few to
    measure, a tenth of it or LEAST_HELD_OUT, whichever is less, gets the next by its hash; one
    of ENOUGH_TO_GIVE_ONE at least one.
    """
    none = np.zeros(len(kept), bool)
    numbers = np.flatnonzero(kept)
    if not share or not len(numbers):
        return HeldOut(none, none)
    units = _Units(found, numbers, share)
    bound = np.uint64(min(share, 1 - 2**-53) * 2**64)
    chosen, common = none.copy(), none.copy()
    chosen[numbers] = units.choose(bound)
    common[numbers] = units.common
    return HeldOut(chosen, common)


class _Units:
    """Conversations that are held out together or not at all, by increasing hash.

    `unit_of` (conversations,) is the unit of each, `counts` (units, classes) how many it has
    of each class, `most` and `least` (classes,) what is held out of them.
    """

    def __init__(self, found: Survey, numbers: np.ndarray, share: float) -> None:
        labels = found.labels[numbers].astype(np.int64)
        classes = len(found.classes)
        sizes = np.bincount(labels, minlength=classes)
        # Something of every class is left to learn, and of every wish something to measure.
        wished = max(min(2 * share, (1 + share) / 2), MOST_HELD_OUT)
        self.most = np.ceil(sizes * wished - 1e-9).astype(np.int64)
        self.most = np.maximum(np.minimum(self.most, sizes - 1), 0)
        tenth = np.maximum(sizes // 10, sizes >= ENOUGH_TO_GIVE_ONE)
        self.least = np.minimum(LEAST_HELD_OUT, tenth)
        together = np.unique(found.openings[numbers], return_inverse=True)[1].reshape(-1)
        crowded = (_table(together, labels, classes) > np.maximum(self.most, 1)).any(1)
        self.common = crowded[together]
        keys = np.where(self.common, found.contents[numbers, 0], found.openings[numbers])
        self.keys, unit_of = np.unique(keys, return_inverse=True)
        self.unit_of = unit_of.reshape(-1)
        self.counts = _table(self.unit_of, labels, classes)

    def choose(self, bound: np.uint64) -> np.ndarray:
        """(conversations,) bool: those of the units below `bound`, and what is missing."""
        below = int(np.searchsorted(self.keys, bound))
        taken = np.zeros(len(self.keys), bool)
        taken[:below] = True
        held = self.counts[:below].sum(0)
        if (held > self.most).any():
            taken[:], held = False, np.zeros_like(held)
            held = self._add(taken, held, range(below))
        for label in np.flatnonzero(held < self.least):
            own = np.flatnonzero(~taken & (self.counts[:, label] > 0))
            held = self._add(taken, held, own.tolist(), label)
        return taken[self.unit_of]

    def _add(
        self, taken: np.ndarray, held: np.ndarray, units: range | list[int], label: int = -1
    ) -> np.ndarray:
        """Take those of `units` that no class has too many with; of one class, only until
        there are enough. How many are then held out of each class."""
        for unit in units:
            if label >= 0 and held[label] >= self.least[label]:
                break
            with_it = held + self.counts[unit]
            if (with_it <= self.most).all():
                taken[unit], held = True, with_it
        return held


def _table(rows: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """(rows, classes) int32: how often each label is in each row."""
    count = int(rows.max()) + 1
    flat = np.bincount(rows * classes + labels, minlength=count * classes)
    return flat.astype(np.int32).reshape(count, classes)
