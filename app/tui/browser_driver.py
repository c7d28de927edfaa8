"""The terminal in a browser: keys come in through a pipe from the server, and what is drawn goes
out through another."""

from __future__ import annotations

import os
import re
import signal
import sys
from codecs import getincrementaldecoder
from contextlib import suppress
from typing import Any, Protocol, cast

from rich.cells import cell_len
from textual.drivers._byte_stream import ByteStream
from textual.drivers.web_driver import WebDriver

from openchat_local.app.tui.terminal import TerminalParser

# What xterm.js would give cells of its own, and Rich counts as a part of what it follows: colours
# of skin, what is joined to an emoji, and the sign that makes a picture of a character.
_PART = re.compile(
    "[\U0001f3fb-\U0001f3ff]|\u200d[\u2190-\u2bff\U0001f000-\U0001faff]|(.)\ufe0f", re.DOTALL
)


class _Ends(Protocol):
    """The app, as far as it is known here."""

    def call_later(self, callback: object, *arguments: object) -> bool: ...

    def input_failed(self, error: Exception) -> None: ...

    def hung_up(self) -> None: ...


class BrowserDriver(WebDriver):
    """Textual's driver with our parser, which nothing stops, and an end when the server's is
    there: without it the window would be left, and its model in memory."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        sys.stdout.flush()
        self.fileno = os.dup(self.fileno)
        os.dup2(2, 1)  # what anybody prints is nothing for the browser
        self._write = self._write_all  # type: ignore[assignment]  # theirs is a partial

    def write(self, data: str) -> None:
        super().write(data if data.isascii() else as_xterm_counts(data))

    def _write_all(self, data: bytes) -> int:
        """A signal may cut a write short. When the server is gone its end is noticed elsewhere."""
        rest = memoryview(data)
        with suppress(BrokenPipeError):
            while rest:
                rest = rest[os.write(self.fileno, rest) :]
        return len(data)

    def run_input_thread(self) -> None:
        """Post what the server sends until the window ends."""
        app = cast("_Ends", self._app)
        try:
            self._read()
        except Exception as error:  # noqa: BLE001 - the window's thread raises it again
            app.call_later(app.input_failed, error)
            return
        if not self.exit_event.is_set():
            self._hang_up(app)

    def _read(self) -> None:
        parser, packets = TerminalParser(self._debug), ByteStream()
        decode = getincrementaldecoder("utf-8")("replace").decode
        for data in self._input_reader:
            for kind, payload in packets.feed(data) if data else ():
                if kind != "D":
                    self._on_meta(kind, payload)
                elif text := decode(payload):
                    for message in parser.feed(text):
                        self.process_message(message)
            for message in parser.tick():
                self.process_message(message)

    def _hang_up(self, app: _Ends) -> None:
        if sys.platform == "win32":
            app.call_later(app.hung_up)
        else:
            os.kill(os.getpid(), signal.SIGHUP)  # as a terminal's end is told


def as_xterm_counts(data: str) -> str:
    """What is drawn with as many cells in the browser as Rich has counted, so that nothing in a
    row is pushed aside: a family is its first member."""

    def plain(found: re.Match[str]) -> str:
        character = found[1]
        if character is None:
            return ""
        return character + " " * (cell_len(f"{character}\ufe0f") - cell_len(character))

    return _PART.sub(plain, data)
