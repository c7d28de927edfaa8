from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.finetune.run.schedule import Schedule


def test_it_rises_to_the_peak_and_falls_to_the_floor() -> None:
    schedule = Schedule(peak=1e-3, steps=100, warmup=0.1, floor=0.1)
    rates = [schedule.rate(step) for step in range(101)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[9] == max(rates) == 1e-3
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(1e-4)


@given(st.integers(1, 500), st.floats(0, 1), st.integers(0, 1000))
def test_every_rate_is_positive_and_at_most_the_peak(steps: int, warmup: float, step: int) -> None:
    assert 0 < Schedule(1.0, steps, warmup).rate(step) <= 1.0
