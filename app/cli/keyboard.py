"""Single keys from the terminal, as they are pressed, and a screen that goes away again.

For commands that ask something many times over. Both belong to standard input and standard
error: standard output has the command's result.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
import unicodedata
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any

_POLITE = (signal.SIGTERM, *((signal.SIGHUP,) if os.name != "nt" else ()))
_KEYS = {
    "\x03": "ctrl+c", "\x04": "ctrl+d", "\r": "enter", "\n": "enter", " ": "space",
    "\x1b[A": "up", "\x1b[B": "down", "\x1b[5~": "pageup", "\x1b[6~": "pagedown",
    "\x1b[H": "home", "\x1b[F": "end", "\x1b[1~": "home", "\x1b[4~": "end",
    "\x1bOA": "up", "\x1bOB": "down", "\x1bOH": "home", "\x1bOF": "end",
}  # fmt: skip
_WINDOWS_KEYS = {
    "H": "up", "P": "down", "I": "pageup", "Q": "pagedown", "G": "home", "O": "end"
}  # fmt: skip
_SEQUENCE = re.compile(r"\x1b\[[0-9;?<>=]*[ -/]*[@-~]|\x1bO.|\x1b[^\[O]?|.", re.DOTALL)


def at_a_terminal() -> bool:
    """Whether there is a person to ask: a keyboard, and a screen that can be painted."""
    shown = os.environ.get("TERM") not in (None, "dumb") or os.name == "nt"
    return sys.stdin.isatty() and sys.stderr.isatty() and shown


class Keyboard:
    """Keys without Enter and without echo, Ctrl-C among them; as it was when it is left."""

    def __enter__(self) -> Keyboard:
        if sys.platform != "win32":
            import termios

            self._file = sys.stdin.fileno()
            self._before = termios.tcgetattr(self._file)
            raw: list[Any] = termios.tcgetattr(self._file)
            raw[0] &= ~(termios.IXON | termios.IXOFF)  # Ctrl-S would seem to hang
            raw[3] &= ~(termios.ICANON | termios.ECHO | termios.ISIG | termios.IEXTEN)
            termios.tcsetattr(self._file, termios.TCSAFLUSH, raw)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if sys.platform != "win32":
            import contextlib
            import termios

            with contextlib.suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(self._file, termios.TCSAFLUSH, self._before)

    def read(self, seconds: float) -> list[str]:
        """The keys that come within this time, none if none does: more than one where they came
        in one breath, as from a paste. A letter is its small one, "" a key without a name here.
        Raises EOFError where the terminal is gone."""
        return [_named(key) for key in self._pressed(seconds)]

    if sys.platform == "win32":

        def _pressed(self, seconds: float) -> list[str]:
            import msvcrt

            deadline = time.monotonic() + seconds
            while not msvcrt.kbhit():
                if time.monotonic() > deadline:
                    return []
                time.sleep(0.02)
            keys = []
            while msvcrt.kbhit():
                key = msvcrt.getwch()
                special = key in ("\x00", "\xe0")
                keys.append(_WINDOWS_KEYS.get(msvcrt.getwch(), "\x00") if special else key)
            return keys

    else:

        def _pressed(self, seconds: float) -> list[str]:
            import select

            if not select.select([self._file], [], [], seconds)[0]:
                return []
            try:
                data = os.read(self._file, 4096)
            except OSError:
                data = b""
            if not data:
                raise EOFError
            return _SEQUENCE.findall(data.decode("utf-8", "replace"))


class Screen:
    """A screen of its own, beside what stood in the terminal, which is there again afterwards:
    also where the program is asked to end meanwhile."""

    def __enter__(self) -> Screen:
        if sys.platform == "win32":
            os.system("")  # has the console obey escape sequences
        self._handlers = {each: signal.signal(each, _leave) for each in _POLITE}
        self._write("\x1b[?1049h\x1b[?25l\x1b[2J")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._write("\x1b[0m\x1b[?25h\x1b[?1049l")
        except OSError:
            pass  # the terminal is gone
        finally:
            for each, handler in self._handlers.items():
                signal.signal(each, handler)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        try:
            columns, rows = os.get_terminal_size(sys.stderr.fileno())
        except OSError:
            columns, rows = 0, 0
        return columns or 80, rows or 24

    def paint(self, lines: Sequence[str]) -> None:
        """Show `lines` from the top row down; the rest of the screen is empty. They hold nothing
        that moves the cursor but to a column of the same row."""
        rows = (f"\x1b[{row};1H\x1b[0m\x1b[K{line}" for row, line in enumerate(lines, 1))
        self._write("".join(rows) + "\x1b[0m\x1b[J")

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


def _named(key: str) -> str:
    if key in _KEYS or len(key) > 1:
        return _KEYS.get(key, key if key.isalpha() else "")
    # An input method for Chinese writes "１" for 1.
    return unicodedata.normalize("NFKC", key).lower() if key.isprintable() else ""


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
