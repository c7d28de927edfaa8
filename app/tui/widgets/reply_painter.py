"""A reply on its way to the screen, no more often than the machine can afford."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openchat_local.app.tui.pacing import Pacer

if TYPE_CHECKING:
    from textual.timer import Timer

    from openchat_local.app.tui.widgets.transcript import Transcript


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
