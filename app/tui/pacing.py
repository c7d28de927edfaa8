"""How often the screen is painted while a reply streams."""

from __future__ import annotations

import time

SHORTEST = 0.08
LONGEST = 0.25
SHARE = 0.05


class Pacer:
    """Chooses the time between two paintings so that they take at most `SHARE` of one core:
    every cycle that the screen takes is one that the decoder on the next core waits for.

    Measured with the CPU time of the whole process, because a painting goes on in
    Textual's timers long after the call that caused it has returned.
    """

    def __init__(self) -> None:
        self.interval = SHORTEST
        self._painted = 0.0
        self._cpu = 0.0
        self._cost = 0.0

    def start(self) -> None:
        """A reply begins: its first words are due at once."""
        self._painted = 0.0

    def due_in(self) -> float:
        """Seconds until the screen may be painted again; 0 when it is due."""
        return max(0.0, self._painted + self.interval - time.monotonic())

    def painted(self) -> None:
        """Called at each painting; weighs what the last one cost."""
        cpu = time.process_time()
        if self._painted:
            self._cost = 0.8 * self._cost + 0.2 * (cpu - self._cpu)
            self.interval = min(LONGEST, max(SHORTEST, self._cost / SHARE))
        self._painted, self._cpu = time.monotonic(), cpu
