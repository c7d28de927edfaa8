"""How many threads decode, when other programs want the cores as well.

llama.cpp's threads wait for each other after every node of the graph, some three hundred
times a token. Where one of them has to share its core, all others wait out its time slices:
two threads on two busy cores decode a tenth as fast as one. So the number of threads follows
from what tokens really take.
"""

from __future__ import annotations

import time
from collections.abc import Callable

WINDOW = 8  # tokens that are timed together
# Of slow tokens two are enough, so that a trial which brings nothing costs a 7B model on two
# cores a third of a second, not one and a half.
WINDOW_SECONDS, FEWEST = 0.4, 2
SUSPICIOUS = 1.5  # times the best time seen: the cores are being shared
BETTER = 0.9  # a trial must be this much faster to win
SHORTEST_REST, LONGEST_REST = 4, 64  # windows between two trials


class ThreadGovernor:
    """Tries half the threads when tokens become slow, and one more from time to time.

    `threads` is the number to decode with, `settled` the one that no trial has beaten; `most`
    is never exceeded. Every trial lasts one window, and trials that bring nothing become rare.
    """

    def __init__(self, most: int) -> None:
        self.threads = most
        self.settled = most
        self._most = most
        self._best = float("inf")
        self._settled_time = float("inf")
        self._rest = SHORTEST_REST
        self._rested = 0
        self._tried_fewer = False

    def observe(self, seconds: float) -> int:
        """Take the seconds a token of the last window, decoded with `threads`; the number of
        threads for the next window."""
        self._best = min(self._best, seconds)
        if self.threads != self.settled:
            self._judge(seconds)
        else:
            self._settled_time = seconds
            self._rested += 1
            self.threads = self._next_trial(seconds)
        return self.threads

    def _judge(self, seconds: float) -> None:
        won = seconds < BETTER * self._settled_time
        if won:
            self.settled, self._settled_time = self.threads, seconds
            self._rest = SHORTEST_REST
        else:
            self._rest = min(LONGEST_REST, self._rest * 2)
        self.threads = self.settled
        self._rested = 0

    def _next_trial(self, seconds: float) -> int:
        if self.settled > 1:
            # Once at the start, when there is nothing yet to compare with.
            first, self._tried_fewer = not self._tried_fewer, True
            slow = seconds > SUSPICIOUS * self._best and self._rested >= SHORTEST_REST
            if first or slow:
                # One fewer is as slow while there are still more threads than free cores.
                return self.settled // 2
        if self.settled < self._most and self._rested >= self._rest:
            return self.settled + 1
        return self.settled


class Pace:
    """Times the tokens of one reply for a governor, and does what it says."""

    def __init__(
        self, governor: ThreadGovernor | None, use_threads: Callable[[int, int], None]
    ) -> None:
        self._governor = governor
        self._use_threads = use_threads
        self._tokens = 0
        self._since = time.perf_counter()

    def token(self) -> None:
        """Another token was decoded."""
        self._tokens += 1
        if self._governor is None or self._tokens < FEWEST:
            return
        elapsed = time.perf_counter() - self._since
        if self._tokens < WINDOW and elapsed < WINDOW_SECONDS:
            return
        before = self._governor.threads, self._governor.settled
        self._governor.observe(elapsed / self._tokens)
        now = self._governor.threads, self._governor.settled
        if now != before:
            self._use_threads(*now)
        self._tokens, self._since = 0, time.perf_counter()
