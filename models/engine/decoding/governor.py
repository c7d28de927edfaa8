"""How many threads decode, when other programs want the cores as well.

llama.cpp's threads wait for each other after every node of the graph, some three hundred
times a token. Where one of them has to share its core, all others wait out its time slices:
two threads on two busy cores decode a tenth as fast as one. So the number of threads follows
from what tokens really take, and from whether the threads got the cores at all: a trial costs
a quiet machine tokens at half the speed, and shows nothing there.
"""

from __future__ import annotations

import time
from collections.abc import Callable

WINDOW = 8  # tokens that are timed together
# Of slow tokens two are enough, so that a trial which brings nothing costs a 7B model on two
# cores a third of a second, not one and a half.
WINDOW_SECONDS, FEWEST = 0.4, 2
SUSPICIOUS = 1.5  # times the best time seen: the cores are being shared
STARVED = 0.8  # of the time that all threads would run when nobody took their cores
BETTER = 0.9  # a trial must be this much faster to win
SHORTEST_REST, LONGEST_REST = 4, 64  # windows between two trials


class ThreadGovernor:
    """Tries half the threads when they do not get the cores, or tokens become slow, and one
    more from time to time.

    `threads` is the number to decode with, `settled` the one that no trial has beaten; `most`
    is never exceeded. Every trial lasts one window, and trials that bring nothing become rare.
    """

    def __init__(self, most: int) -> None:
        self.threads = most
        self.settled = most
        self.most = most
        self._best = float("inf")
        self._settled_time = float("inf")
        self._rest = SHORTEST_REST
        self._rested = 0
        self._tried_fewer = False

    def observe(self, seconds: float, running: float) -> int:
        """Take the seconds a token of the last window, decoded with `threads`, and the share
        of it in which those were running, from 0 to 1 in the mean; the number of threads for
        the next window."""
        self._best = min(self._best, seconds)
        if self.threads != self.settled:
            self._judge(seconds)
        else:
            self._settled_time = seconds
            self._rested += 1
            self.threads = self._next_trial(seconds, running)
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

    def _next_trial(self, seconds: float, running: float) -> int:
        if self.settled > 1:
            # For the first time at once: at the start there is no better time to compare with.
            starved = running < STARVED
            rest = SHORTEST_REST if starved else self._rest
            slow = seconds > SUSPICIOUS * self._best and self._rested >= rest
            if slow or (starved and not self._tried_fewer):
                self._tried_fewer = True
                # One fewer is as slow while there are still more threads than free cores.
                return self.settled // 2
        if self.settled < self.most and self._rested >= self._rest:
            return self.settled + 1
        return self.settled


class Pace:
    """Times the tokens of one reply for a governor, and does what it says."""

    def __init__(self, governor: ThreadGovernor | None, use_threads: Callable[[int], None]) -> None:
        self._governor = governor
        self._use_threads = use_threads
        self._held = False
        self._restart()

    @property
    def full(self) -> bool:
        """Whether all threads decode now, as they always would on a quiet machine."""
        governor = self._governor
        return governor is None or self._held or governor.threads == governor.most

    def hold(self, held: bool) -> None:
        """Decode with all threads as long as this is `held`, whatever the cores are wanted for."""
        if held == self._held or self._governor is None:
            return
        self._held = held
        self._use_threads(self._governor.most if held else self._governor.threads)

    def token(self) -> None:
        """Another token was decoded."""
        self._tokens += 1
        if self._governor is None or self._held or self._tokens < FEWEST:
            return
        elapsed = time.perf_counter() - self._since
        if self._tokens < WINDOW and elapsed < WINDOW_SECONDS:
            return
        before = self._governor.threads
        running = (time.process_time() - self._since_running) / (elapsed * before)
        now = self._governor.observe(elapsed / self._tokens, running)
        if now != before:
            self._use_threads(now)
        self._restart()

    def skip(self) -> None:
        """Several were decoded at once, which tells nothing of the cores."""
        self._restart()

    def _restart(self) -> None:
        self._tokens = 0
        self._since, self._since_running = time.perf_counter(), time.process_time()
