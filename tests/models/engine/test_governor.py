"""Simulated machines: seconds a token, and how much of it the threads ran, by their number and
by what else runs."""

from __future__ import annotations

from collections.abc import Callable

from openchat_local.models.engine.decoding.governor import ThreadGovernor

Machine = Callable[[int], tuple[float, float]]


def decode(governor: ThreadGovernor, windows: int, machine: Machine) -> list[int]:
    """The threads of each window on this machine."""
    used = []
    for _ in range(windows):
        used.append(governor.threads)
        governor.observe(*machine(governor.threads))
    return used


def idle(threads: int) -> tuple[float, float]:
    return 0.008 / threads + 0.002, 0.99


def busy(threads: int) -> tuple[float, float]:
    """One of two cores belongs to somebody else."""
    return (0.010, 0.99) if threads == 1 else (0.200, 0.6)


def throttled(threads: int) -> tuple[float, float]:
    """Slow because of something else than other programs."""
    return 5 * idle(threads)[0], 0.99


def test_an_idle_machine_tries_nothing() -> None:
    assert set(decode(ThreadGovernor(2), 200, idle)) == {2}


def test_a_machine_that_becomes_slow_tries_fewer_threads_and_goes_back() -> None:
    governor = ThreadGovernor(2)
    decode(governor, 20, idle)
    used = decode(governor, 200, throttled)
    assert 1 <= used.count(1) <= 8
    assert governor.settled == 2


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
    def three_taken(threads: int) -> tuple[float, float]:
        return idle(threads) if threads <= 4 else (0.1, 0.7)

    used = decode(ThreadGovernor(7), 60, three_taken)
    assert max(used[-5:]) <= 5
    assert used[-20:].count(4) >= 15


def test_one_thread_is_left_alone() -> None:
    assert set(decode(ThreadGovernor(1), 50, busy)) == {1}
