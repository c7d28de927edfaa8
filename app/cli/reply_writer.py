"""A reply on standard output, and what it thought beside it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from openchat_local.app.printable import printable

if TYPE_CHECKING:
    from openchat_local.models.thoughts import ThoughtMarks

_DIM, _PLAIN = "\x1b[2m", "\x1b[22m"


class ReplyWriter:
    """The reply on standard output: harmless at a terminal, unchanged in a pipe.

    With `marks`, what stands between them goes to standard error instead, dimmed, if that is a
    terminal, and nowhere if it is not.
    """

    def __init__(self, marks: ThoughtMarks | None, *, streaming: bool) -> None:
        from openchat_local.models.thoughts import ThoughtReader

        self._terminal = sys.stdout.isatty()
        self._clean = printable if self._terminal else str
        self._streaming = streaming
        self._last = ""
        self._reader = ThoughtReader(marks)
        self._beside = sys.stderr.isatty()
        self._thinking = False  # whether thoughts stand on the terminal, their line not ended

    def text(self, text: str) -> None:
        """More of the reply."""
        for part in self._reader.feed(text):
            self._write(part.text, thought=part.thought)

    def end(self) -> None:
        """Nothing more will come."""
        for part in self._reader.finish():
            self._write(part.text, thought=part.thought)
        self._end_thoughts()
        if self._last and not self._last.endswith("\n"):
            sys.stdout.buffer.write(b"\n")
        sys.stdout.buffer.flush()

    def _write(self, text: str, *, thought: bool) -> None:
        if thought:
            if self._beside:
                sys.stderr.write(f"{_DIM}{printable(text)}{_PLAIN}")
                sys.stderr.flush()
                self._thinking = True
            return
        self._end_thoughts()
        # A terminal's encoding may not have every character; a pipe gets UTF-8 always.
        encoding = sys.stdout.encoding if self._terminal else "utf-8"
        sys.stdout.buffer.write(self._clean(text).encode(encoding, "replace"))
        if self._streaming:
            sys.stdout.buffer.flush()
        self._last = text

    def _end_thoughts(self) -> None:
        if self._thinking:
            sys.stderr.write("\n\n")
            sys.stderr.flush()
            self._thinking = False
