"""Weighted token rows, and batches of them: NumPy, the same for every backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation: `ids` (tokens,) int32 and `weights` (tokens,) float32.

    `weights[i]` is the weight of predicting `ids[i]` from what precedes it, so that
    `weights[0]` is always 0. `class_index` numbers the conversation's class; `line` is
    where it stood in its file, from 1.
    """

    ids: np.ndarray
    weights: np.ndarray
    class_index: int
    line: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows side by side or packed, all (rows, columns), labels already shifted.

    `labels[r, c]` is what follows `tokens[r, c]` within its conversation and `weights[r, c]`
    its weight, 0 at the last token of each conversation and on padding. `segments` numbers
    the conversations of a row from 1, 0 is padding: attention stays within a segment.
    `classes` is the class index of each position, -1 on padding.
    """

    tokens: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    segments: np.ndarray
    classes: np.ndarray

    @property
    def supervised(self) -> int:
        """Positions with weight."""
        return int(np.count_nonzero(self.weights))

    def targets(self) -> Targets:
        """What is to be predicted, and where."""
        positions = np.flatnonzero(self.weights)
        return Targets(positions, self.labels.ravel()[positions], self.weights.ravel()[positions])


class Targets(NamedTuple):
    """The positions with weight in the raveled batch, and the label and weight at each."""

    positions: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


def build_batch(
    rows: Sequence[Row], groups: Sequence[Sequence[int]], columns: int | None = None
) -> Batch:
    """A batch with one row a group, the conversations `rows[i]` of the group side by side.

    `columns` defaults to the longest group. Raises ValueError if a group is longer.
    """
    chosen = [[rows[index] for index in group] for group in groups]
    longest = max((sum(len(row.ids) for row in group) for group in chosen), default=0)
    columns = longest if columns is None else columns
    if longest > columns:
        raise ValueError(f"a group of {longest} tokens does not fit into {columns} columns")
    shape = (len(chosen), columns)
    batch = Batch(
        tokens=np.zeros(shape, np.int32),
        labels=np.zeros(shape, np.int32),
        weights=np.zeros(shape, np.float32),
        segments=np.zeros(shape, np.int32),
        classes=np.full(shape, -1, np.int32),
    )
    for line, group in enumerate(chosen):
        start = 0
        for segment, row in enumerate(group, 1):
            end = start + len(row.ids)
            batch.tokens[line, start:end] = row.ids
            batch.labels[line, start : end - 1] = row.ids[1:]
            batch.weights[line, start : end - 1] = row.weights[1:]
            batch.segments[line, start:end] = segment
            batch.classes[line, start:end] = row.class_index
            start = end
    return batch
