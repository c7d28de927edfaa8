"""The terminal on POSIX: read in a thread, whose end is never unnoticed."""

from __future__ import annotations

import errno
import os
import selectors
import signal
from codecs import getincrementaldecoder
from typing import Protocol, cast

from textual.drivers.linux_driver import LinuxDriver

from openchat_local.app.tui.terminal import TerminalParser

WAIT_SECONDS = 0.1  # for input, before a look at whether a lone ESC was the key
READ_BYTES = 65536
_GONE = frozenset({errno.EIO, errno.EBADF, errno.ENXIO})


class _TellsOfInput(Protocol):
    """The app, as far as it is known here."""

    def call_later(self, callback: object, *arguments: object) -> bool: ...

    def input_failed(self, error: Exception) -> None: ...


class PosixDriver(LinuxDriver):
    """Textual's driver with our parser. No bytes stop it, and it tells the app of a fault that
    does: Textual would end the window as if the user had closed it."""

    def _run_input_thread(self) -> None:
        try:
            self.run_input_thread()
        except Exception as error:  # noqa: BLE001 - the window's thread raises it again
            if isinstance(error, OSError) and error.errno in _GONE:
                _hang_up()
            else:
                app = cast("_TellsOfInput", self._app)
                app.call_later(app.input_failed, error)

    def run_input_thread(self) -> None:
        """Post what the terminal sends until `exit_event` is set."""
        parser = TerminalParser(self._debug)
        # A terminal may send Latin-1, Alt+a as one byte: no reason to close the window.
        decode = getincrementaldecoder("utf-8")("replace").decode
        with selectors.SelectSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            while not self.exit_event.is_set():
                if selector.select(WAIT_SECONDS):
                    data = os.read(self.fileno, READ_BYTES)
                    if not data:
                        _hang_up()
                        return
                    if text := decode(data):  # half a character is none yet
                        for message in parser.feed(text):
                            self.process_message(message)
                for message in parser.tick():
                    self.process_message(message)


def _hang_up() -> None:
    """The terminal is gone: what the system says of it with a signal, perhaps later."""
    os.kill(os.getpid(), signal.SIGHUP)
