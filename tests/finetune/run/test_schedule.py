from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.finetune.run.schedule import Schedule


def test_it_rises_to_the_peak_and_its_last_step_is_at_the_floor() -> None:
    schedule = Schedule(peak=1e-3, steps=100, warmup=0.1, floor=0.1)
    rates = [schedule.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[9] == max(rates) == 1e-3
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[10] < 1e-3
    assert rates[98] > rates[99] == pytest.approx(1e-4)


def test_it_is_the_reference_schedule() -> None:
    """Half a cosine over the steps after the warm-up, steps counted from 1."""
    schedule = Schedule(peak=2.0, steps=40, warmup=0.05, floor=0.2)
    for step in range(2, 40):
        progress = (step + 1 - 2) / (40 - 2)
        ratio = 0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * progress))
        assert schedule.rate(step) == pytest.approx(2.0 * ratio)


@given(st.integers(1, 500), st.floats(0, 1), st.floats(0, 1), st.integers(0, 1000))
def test_every_rate_is_between_the_floor_or_zero_and_the_peak(
    steps: int, warmup: float, floor: float, step: int
) -> None:
    rate = Schedule(1.0, steps, warmup, floor).rate(step)
    assert 0 <= rate <= 1.0
    assert rate > 0 or floor == 0
