"""The command in a real terminal: what is written to it, keys that are pressed."""

from __future__ import annotations

import os
import select
import signal
import struct
import subprocess
import time

import pytest

from support.programs import PROGRAM

pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminals of this kind")
fcntl = pytest.importorskip("fcntl")
termios = pytest.importorskip("termios")


class Terminal:
    """`openchat-local` in a terminal of 100 by 30, or `size`."""

    def __init__(
        self, *arguments: str, size: tuple[int, int] = (100, 30), **environment: str
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size[::-1], 0, 0))
        # The size is the terminal's. (Where tests run in several processes, these are set.)
        outside = {name: os.environ[name] for name in os.environ.keys() - {"COLUMNS", "LINES"}}
        self.process = subprocess.Popen(
            [*PROGRAM, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=outside | {"TERM": "xterm-256color"} | environment,
            start_new_session=True,
        )
        os.close(slave)
        self.output = b""

    def read(self, seconds: float) -> bytes:
        """What is written until nothing has been for `seconds`."""
        new = b""
        while select.select([self._master], [], [], seconds)[0]:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                break
            new += data
        self.output += new
        return new

    def wait_for(self, text: bytes, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.output:
            assert time.monotonic() < deadline, self.output[-2000:]
            self.read(0.05)

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def vanish(self) -> None:
        """The terminal's window is closed."""
        os.close(self._master)
        self._master = -1
        self.process.send_signal(signal.SIGHUP)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        if self._master >= 0:
            os.close(self._master)
