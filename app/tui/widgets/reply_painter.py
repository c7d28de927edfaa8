"""A reply on its way to the screen, no more often than the machine can afford."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.timer import Timer

    from openchat_local.app.tui.widgets.transcript import Transcript

SHORTEST = 0.08
LONGEST = 0.25
SHARE = 0.05


class ReplyPainter:
    """Holds text back until the next painting is due."""

    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript
        self._pacer = Pacer()
        self._unpainted = ""
        self._timer: Timer | None = None

    def start(self) -> None:
        """A reply begins: its first words are due at once."""
        self.clear()
        self._pacer.start()

    def clear(self) -> None:
        """Another branch is shown: what was held back belongs to none of its turns."""
        self._unpainted = ""

    def add(self, text: str) -> None:
        """More of the reply, painted when it is due."""
        self._unpainted += text
        wait = self._pacer.due_in()
        if not wait:
            self.paint()
        elif self._timer is None:
            self._timer = self._transcript.set_timer(wait, self.paint)

    def paint(self, *, to_the_end: bool = False) -> None:
        """Paint now; `to_the_end` when nothing more will come."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        text, self._unpainted = self._unpainted, ""
        if text.endswith("\r") and not to_the_end:  # half of a Windows line end, perhaps
            text, self._unpainted = text[:-1], "\r"
        if text:
            self._transcript.grow_reply(text)
            self._pacer.painted()


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
