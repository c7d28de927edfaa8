"""Epochs: every row once, the same order everywhere, full rows and mixed classes."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openchat_local.finetune.data.epoch import Layout, efficiency, plan_epoch, rows_of

layouts = st.builds(
    Layout,
    tokens_per_step=st.sampled_from([64, 256, 1024]),
    tokens_per_batch=st.sampled_from([64, 128, 1024]),
    columns=st.sampled_from([64, 100, 256]),
    packing=st.booleans(),
)
some_lengths = st.lists(st.integers(2, 64), max_size=200).map(np.array)


def answers(count: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Lengths and classes of conversations: a tenth of class 0, and that the longer ones."""
    random = np.random.default_rng(0)
    classes = (np.arange(count) % 10 > 0).astype(np.int64)
    lengths = random.lognormal(5.4, 0.6, count) * np.where(classes, 1, 1.4)
    return np.clip(lengths, 20, 2048).astype(np.int64), classes


@settings(deadline=None)
@given(lengths=some_lengths, layout=layouts, seed=st.integers(0, 2**64 - 1), data=st.data())
def test_every_row_once_and_within_its_bounds(
    lengths: np.ndarray, layout: Layout, seed: int, data: st.DataObject
) -> None:
    count = len(lengths)
    classes = np.array(data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)))
    steps = plan_epoch(lengths, classes, seed, 0, layout)
    assert sorted(row for step in steps for row in rows_of(step)) == list(range(count))
    for step in steps:
        assert step
        for batch in step:
            assert batch.groups
            assert batch.columns <= layout.columns
            for group in batch.groups:
                assert lengths[list(group)].sum() <= batch.columns
                assert layout.packing or len(group) == 1
            one_row = len(batch.groups) == 1
            assert one_row or len(batch.groups) * batch.columns <= layout.tokens_per_batch


@settings(deadline=None, max_examples=25)
@given(lengths=some_lengths, layout=layouts, seed=st.integers(0, 2**32))
def test_one_seed_gives_one_order(lengths: np.ndarray, layout: Layout, seed: int) -> None:
    classes = np.zeros(len(lengths), np.int32)
    first = plan_epoch(lengths, classes, seed, 3, layout)
    assert plan_epoch(lengths.astype(np.int32), classes, seed, 3, layout) == first


def test_the_order_is_the_same_on_every_machine() -> None:
    numbers = np.arange(300)
    lengths, classes = numbers * 37 % 900 + 20, (numbers % 10 > 0).astype(np.int64)
    steps = plan_epoch(lengths, classes, 7, 1, Layout(4096, 2048, 2048))
    told = hashlib.sha256(repr(steps).encode()).hexdigest()
    assert told == "90e8746f1fcb16e7e8fb52cdb121bbc5ef8e6f73c3f2b6275bb20880cca9c3b7"


@pytest.mark.parametrize("packing", [True, False])
def test_each_epoch_and_each_seed_has_its_own_order(packing: bool) -> None:
    lengths, classes = answers(300)
    layout = Layout(4096, 2048, 2048, packing)
    plans = [
        plan_epoch(lengths, classes, seed, epoch, layout)
        for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1))
    ]
    firsts = [frozenset(rows_of(plan[0])) for plan in plans]
    assert len({*firsts}) == 4


def test_packing_fills_the_rows() -> None:
    lengths, classes = answers()
    steps = plan_epoch(lengths, classes, 0, 0, Layout(8192, 4096, 2048))
    assert efficiency(steps, lengths, classes).filled >= 0.99


@pytest.mark.parametrize("packing", [True, False])
def test_every_step_has_about_the_datas_share_of_each_class(packing: bool) -> None:
    lengths, classes = answers()
    steps = plan_epoch(lengths, classes, 0, 0, Layout(16384, 4096, 2048, packing))
    assert efficiency(steps, lengths, classes).mixed == 1
    tokens = np.array(
        [[lengths[rows][classes[rows] == c].sum() for c in (0, 1)] for rows in map(rows_of, steps)]
    )
    share = lengths[classes == 0].sum() / lengths.sum()
    assert np.abs(tokens[:, 0] / tokens.sum(1) - share).max() < 0.08
    assert tokens.sum(1).min() > 0.5 * tokens.sum(1).max()  # no small step at the end


def test_rows_without_packing_share_a_batch_with_their_like() -> None:
    lengths, classes = answers()
    steps = plan_epoch(lengths, classes, 0, 0, Layout(16384, 4096, 2048, packing=False))
    assert efficiency(steps, lengths, classes).filled > 0.9
    # Not in order of length: the first half of the epoch is no shorter than the second.
    means = [float(lengths[rows_of(step)].mean()) for step in steps]
    half = len(means) // 2
    assert np.mean(means[:half]) == pytest.approx(np.mean(means[half:]), rel=0.1)


def test_smaller_micro_batches_leave_the_steps_as_they_are() -> None:
    lengths, classes = answers(300)
    for packing in (True, False):
        large = plan_epoch(lengths, classes, 0, 0, Layout(8192, 8192, 2048, packing))
        small = plan_epoch(lengths, classes, 0, 0, Layout(8192, 2048, 2048, packing))
        assert [sorted(rows_of(step)) for step in small] == [sorted(rows_of(s)) for s in large]
        assert sum(map(len, small)) > sum(map(len, large))


def test_a_row_longer_than_the_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="a row of 65 tokens exceeds 64 columns"):
        plan_epoch(np.array([3, 65]), np.zeros(2, np.int64), 0, 0, Layout(64, 64, 64))
