"""A program in a real pseudo-terminal, driven by keys and watched from outside."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
import time
from pathlib import Path

import psutil


class Terminal:
    """Runs a command in a terminal of `columns` × `rows`; its output is read and kept."""

    def __init__(self, command: list[str], columns: int = 120, rows: int = 40) -> None:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        environment = os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
        self.started = time.perf_counter()
        self._popen = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, close_fds=True,
            start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self._master = master
        self._output = bytearray()
        self._times: list[tuple[int, float]] = []
        self.process = psutil.Process(self._popen.pid)
        threading.Thread(target=self._read, daemon=True).start()

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def wait_for(self, text: str, timeout: float = 60.0, after: int = 0) -> float:
        """Seconds from the start until `text` had been written; raises TimeoutError."""
        wanted, deadline = text.encode(), time.perf_counter() + timeout
        while time.perf_counter() < deadline:
            at = bytes(self._output).find(wanted, after)
            if at >= 0:
                end = at + len(wanted)
                return next(when for size, when in self._times if size >= end) - self.started
            time.sleep(0.002)
        raise TimeoutError(f"{text!r} never appeared; the end was {bytes(self._output[-500:])!r}")

    @property
    def written(self) -> int:
        """Bytes written so far."""
        return len(self._output)

    def tail(self, size: int) -> bytes:
        """The last `size` bytes written."""
        return bytes(self._output[-size:])

    def close(self) -> None:
        for child in self.process.children(recursive=True):
            child.kill()
        self._popen.kill()
        self._popen.wait()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                return
            if not data:
                return
            self._output += data
            self._times.append((len(self._output), time.perf_counter()))


def wait_for_reply(database: Path, timeout: float = 120.0, number: int = 1) -> dict[str, float]:
    """The usage of the newest reply once `number` of them are closed, read from the chat store."""
    import json
    import sqlite3

    deadline = time.perf_counter() + timeout
    query = (
        "SELECT usage FROM messages WHERE role = 'assistant' AND finish_reason IS NOT NULL "
        "ORDER BY created_at DESC"
    )
    while time.perf_counter() < deadline:
        if database.exists():
            connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
            try:
                rows = connection.execute(query).fetchall()
            except sqlite3.OperationalError:
                rows = []
            finally:
                connection.close()
            if len(rows) >= number and rows[0][0]:
                usage: dict[str, float] = json.loads(rows[0][0])
                return usage
        time.sleep(0.25)
    raise TimeoutError("the reply never ended")
