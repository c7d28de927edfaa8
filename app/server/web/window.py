"""A chat window in a process of its own, which draws into a pipe instead of a terminal.

What travels is what Textual's web driver speaks: a letter, four bytes of a length, and so many
bytes. D is what a terminal would get or send, M is JSON beside it.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, cast

from openchat_local.models.system.child_process import how_it_ended, own_process_group

GRACE_SECONDS = 8.0
"""For a window whose tab is gone: it keeps the draft and what was replied so far."""
DRIVER = "openchat_local.app.tui.browser_driver:BrowserDriver"
BROWSER = "openchat-local-web"
"""Its TERM_PROGRAM, by which the window knows."""
_UNICODE = "12.0.0"  # whose widths the terminal of textual-serve has; Rich reads the variable
_BEGIN = b"__GANGLION__\n"
_LINES_BEFORE = 20
LARGEST = 16 * 1024**2
# What would make the window take the server's own terminal, or its desktop, for the browser's.
_OF_THE_TERMINAL = frozenset(
    {"COLORTERM", "DISPLAY", "KITTY_WINDOW_ID", "LINES", "NO_COLOR", "STY", "TMUX",
     "VTE_VERSION", "WAYLAND_DISPLAY", "WT_SESSION"}
)  # fmt: skip


class Window:
    """One that runs. Whoever has opened it ends it."""

    def __init__(self, process: Process, stderr: BinaryIO) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._stderr = stderr

    @classmethod
    async def open(
        cls, command: Sequence[str], environment: Mapping[str, str], size: tuple[int, int]
    ) -> Window:
        """Start `command`, which is `chat`, at `size`: columns and rows. Raises OSError."""
        width, height = size
        own = {name: value for name, value in os.environ.items() if name not in _OF_THE_TERMINAL}
        own |= {
            "TEXTUAL_DRIVER": DRIVER,
            "TEXTUAL_COLOR_SYSTEM": "truecolor",
            "TERM": "xterm-256color",
            "UNICODE_VERSION": _UNICODE,
            "TERM_PROGRAM": BROWSER,
            "COLUMNS": str(width),
            "ROWS": str(height),
        }
        stderr = tempfile.TemporaryFile()  # noqa: SIM115 - it is read when the process has ended
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=PIPE, stderr=stderr, env={**own, **environment},
                **own_process_group(),
            )  # fmt: skip
        except BaseException:
            stderr.close()
            raise
        return cls(process, cast("BinaryIO", stderr))

    @property
    def id(self) -> int:
        """Of the process."""
        return self._process.pid

    async def drawn(self) -> AsyncIterator[bytes]:
        """What it draws, for a terminal, until it ends."""
        with suppress(asyncio.IncompleteReadError, ValueError):  # a ValueError: no line's end
            for _ in range(_LINES_BEFORE):
                if await self._stdout.readline() == _BEGIN:
                    break
            else:
                return
            while True:
                head = await self._stdout.readexactly(5)
                size = int.from_bytes(head[1:], "big")
                if size > LARGEST:
                    return
                payload = await self._stdout.readexactly(size)
                if head[:1] == b"D":
                    yield payload

    async def type(self, text: str) -> None:
        """Send keys, or what was pasted. Half a surrogate pair, which a browser may send, is no
        character."""
        await self._send(b"D", text.encode("utf-8", "replace"))

    async def tell(self, kind: str, **more: Any) -> None:
        """Send one of the messages that Textual knows: resize, focus, blur."""
        await self._send(b"M", json.dumps({"type": kind, **more}).encode())

    async def _send(self, kind: bytes, payload: bytes) -> None:
        with suppress(ConnectionError, RuntimeError):  # it has ended, as whoever reads will see
            self._stdin.write(kind + len(payload).to_bytes(4, "big") + payload)
            await self._stdin.drain()

    async def ended(self) -> str | None:
        """Wait for its end. How it came is returned, None where the window was closed."""
        code = await self._process.wait()
        return None if code == 0 else how_it_ended(code, self._stderr)

    async def end(self) -> None:
        """Hang up, as a terminal that is closed does; kill it where it does not end. When this
        comes back, or is cancelled, the process is no more."""
        self._stdin.close()
        try:
            await self._gone(GRACE_SECONDS)
        finally:
            # Nobody else waits for this child, so that its number cannot be another's yet.
            if self._process.returncode is None:
                self._process.kill()
            self._stderr.close()
        await self._gone(GRACE_SECONDS)

    async def _gone(self, seconds: float) -> None:
        """Wait for the end. What it still draws is thrown away: a process that cannot write
        cannot end, and asyncio tells no end before that of the pipe."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while await self._stdout.read(65536):
                    pass
                await self._process.wait()
