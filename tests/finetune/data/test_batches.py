"""Batches: every token once, labels within a conversation, nothing else anywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.finetune.data.batches import Row, build_batch


def make_row(length: int, class_index: int = 0, line: int = 1) -> Row:
    random = np.random.default_rng(line)
    weights = random.choice(np.array([0, 0.1, 1], np.float32), length)
    weights[0] = 0
    ids = random.integers(1, 1000, length, dtype=np.int32)
    return Row(ids, weights.astype(np.float32), class_index, line)


def test_a_packed_row_by_hand() -> None:
    first = Row(np.array([1, 5, 6], np.int32), np.array([0, 0, 1], np.float32), 0, 1)
    second = Row(np.array([1, 7], np.int32), np.array([0, 0.5], np.float32), 3, 2)
    batch = build_batch([first, second], [(0, 1), (1,)], columns=6)
    assert batch.tokens.tolist() == [[1, 5, 6, 1, 7, 0], [1, 7, 0, 0, 0, 0]]
    assert batch.labels.tolist() == [[5, 6, 0, 7, 0, 0], [7, 0, 0, 0, 0, 0]]
    assert batch.weights.tolist() == [[0, 1, 0, 0.5, 0, 0], [0.5, 0, 0, 0, 0, 0]]
    assert batch.segments.tolist() == [[1, 1, 1, 2, 2, 0], [1, 1, 0, 0, 0, 0]]
    assert batch.classes.tolist() == [[0, 0, 0, 3, 3, -1], [3, 3, -1, -1, -1, -1]]
    assert batch.supervised == 3


@given(groups=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), max_size=4))
def test_every_conversation_stands_in_its_segment_and_nowhere_else(groups: list[list[int]]) -> None:
    rows: list[Row] = []
    numbered = []
    for group in groups:
        numbered.append(range(len(rows), len(rows) + len(group)))
        rows += [
            make_row(length, class_index=len(rows) + i, line=len(rows) + i + 1)
            for i, length in enumerate(group)
        ]
    batch = build_batch(rows, numbered)
    for array in (batch.labels, batch.weights, batch.segments, batch.classes):
        assert array.shape == batch.tokens.shape
    for line, group in enumerate(numbered):
        for segment, index in enumerate(group, 1):
            here = batch.segments[line] == segment
            row = rows[index]
            assert batch.tokens[line, here].tolist() == row.ids.tolist()
            assert batch.labels[line, here].tolist() == [*row.ids[1:], 0]
            assert batch.weights[line, here].tolist() == [*row.weights[1:], 0]
            assert set(batch.classes[line, here].tolist()) == {row.class_index}
    padding = batch.segments == 0
    assert (batch.weights[padding] == 0).all()
    assert (batch.classes[padding] == -1).all()
    assert np.count_nonzero(~padding) == sum(len(row.ids) for row in rows)
    assert batch.weights.sum() == pytest.approx(sum(float(row.weights.sum()) for row in rows))


def test_a_group_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="7 tokens does not fit into 6 columns"):
        build_batch([make_row(4), make_row(3)], [(0, 1)], columns=6)
