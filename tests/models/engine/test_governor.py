"""Simulated machines: seconds a token by the number of threads and by what else runs."""

from __future__ import annotations

from collections.abc import Callable

from openchat_local.models.engine.governor import ThreadGovernor


def decode(governor: ThreadGovernor, windows: int, seconds: Callable[[int], float]) -> list[int]:
    """The threads of each window on a machine where `n` threads take `seconds(n)` a token."""
    used = []
    for _ in range(windows):
        used.append(governor.threads)
        governor.observe(seconds(governor.threads))
    return used


def idle(threads: int) -> float:
    return 0.008 / threads + 0.002


def busy(threads: int) -> float:
    """One of two cores belongs to somebody else."""
    return 0.010 if threads == 1 else 0.200


def test_an_idle_machine_uses_all_threads_but_for_one_trial() -> None:
    used = decode(ThreadGovernor(2), 200, idle)
    assert used.count(1) == 1
    assert used[0] == 2


def test_a_machine_that_is_busy_from_the_start_is_noticed_after_a_window() -> None:
    used = decode(ThreadGovernor(2), 200, busy)
    assert used[:3] == [2, 1, 1]
    assert used.count(2) <= 10


def test_cores_that_are_taken_in_mid_reply_and_given_back() -> None:
    governor = ThreadGovernor(2)
    decode(governor, 20, idle)
    during = decode(governor, 40, busy)
    assert during.count(2) <= 10
    assert during[-1] == 1
    after = decode(governor, 80, idle)
    assert after[-1] == 2


def test_many_cores_step_down_to_what_is_free() -> None:
    def three_taken(threads: int) -> float:
        return idle(threads) if threads <= 4 else 0.1

    used = decode(ThreadGovernor(7), 60, three_taken)
    assert max(used[-5:]) <= 5
    assert used[-20:].count(4) >= 15


def test_one_thread_is_left_alone() -> None:
    assert set(decode(ThreadGovernor(1), 50, busy)) == {1}
