"""A tab's WebSocket: the key first, then keys in and what the window draws out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from openchat_local.app.printable import one_line
from openchat_local.app.server.guard import fits
from openchat_local.app.server.web.window import Window

MOST_WINDOWS = 8
KEY_SECONDS = 10.0
"""From a connection to the key."""
SEND_SECONDS = 60.0
"""For a tab to take what was drawn."""
_COLUMNS, _ROWS = (20, 80, 1000), (5, 24, 500)
"""The least, what it is where nothing is asked for, and the most."""
_LONGEST_KEY = 4096  # characters of a first message that are worth a look
_LOCKED, _FULL, _FAULT = 4401, 4429, 4500


class _Locked(Exception):
    """No key was shown, or a wrong one."""


@dataclass(slots=True)
class Sessions:
    """The windows that are open in tabs: `most` at once, each a process of `command` with the
    `environment` beside ours. `key` is the digest of what opens one. Belongs to one event loop."""

    command: Sequence[str]
    key: bytes
    environment: Mapping[str, str] = field(default_factory=dict)
    most: int = MOST_WINDOWS
    log: Callable[[str], None] = lambda line: None
    open: set[int] = field(default_factory=set)
    """Process ids."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One tab, from its handshake to its end, which is that of its window as well."""
        socket = WebSocket(scope, receive, send)
        await socket.accept()
        try:
            size = await self._admitted(socket)
            if len(self.open) >= self.most:
                await _told(socket, _FULL, "full", f"{self.most} windows are open already: close "
                            "a tab that is not needed.")  # fmt: skip
                return
            await self._show(socket, size)
        except _Locked:
            await _told(socket, _LOCKED, "locked", "")
        except (WebSocketDisconnect, TimeoutError):
            return  # the tab is gone, or never said what it wants

    async def _admitted(self, socket: WebSocket) -> tuple[int, int]:
        """The size that the tab asks for. Raises _Locked."""
        async with asyncio.timeout(KEY_SECONDS):
            kind, key = _message((await _text(socket))[:_LONGEST_KEY])
        if kind != "key" or not isinstance(key, str) or not fits(key, (self.key,)):
            raise _Locked
        asked = socket.query_params
        return _size({"width": _number(asked.get("width")), "height": _number(asked.get("height"))})

    async def _show(self, socket: WebSocket, size: tuple[int, int]) -> None:
        try:
            window = await Window.open(self.command, self.environment, size)
        except OSError as error:
            await _told(socket, _FAULT, "ended", f"No window can be opened ({error.strerror}).")
            return
        self.open.add(window.id)
        self.log(f"A window is opened, {len(self.open)} of {self.most}")
        how: str | None = None
        try:
            drawing = asyncio.ensure_future(_drawn(window, socket))
            typing = asyncio.ensure_future(_typed(window, socket))
            if await _first(drawing, typing) is drawing:
                how = await window.ended()
                await _told(socket, 1000 if how is None else _FAULT, "ended", _sentence(how))
        finally:
            self.open.discard(window.id)
            await window.end()
            self.log(one_line(f"A window is closed{'' if how is None else f' ({how})'}"))


async def _first(*tasks: asyncio.Task[None]) -> asyncio.Task[None]:
    """The one that comes to its end first; the others are cancelled. Raises what it raises."""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    first = next(task for task in tasks if task in done)
    first.result()
    return first


async def _drawn(window: Window, socket: WebSocket) -> None:
    """Until the window has ended, or the tab is gone (WebSocketDisconnect)."""
    async for data in window.drawn():
        async with asyncio.timeout(SEND_SECONDS):
            await socket.send_bytes(data)


async def _typed(window: Window, socket: WebSocket) -> None:
    """Until the tab is gone (WebSocketDisconnect)."""
    while True:
        match _message(await _text(socket)):
            case "stdin", str(text):
                await window.type(text)
            case "resize", dict(asked):
                width, height = _size(asked)
                await window.tell("resize", width=width, height=height)
            case ("focus" | "blur") as kind, _:
                await window.tell(kind)
            case "ping", str(text):
                await socket.send_json(["pong", text[:40]])


async def _text(socket: WebSocket) -> str:
    """What comes next, "" where it is no text. Raises WebSocketDisconnect."""
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    return message.get("text") or ""


def _message(text: str) -> tuple[str, Any]:
    """What a tab says: a list of a word and, for most, something more."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return "", None
    match found:
        case [str(kind)]:
            return kind, None
        case [str(kind), more]:
            return kind, more
    return "", None


def _size(asked: Mapping[str, Any]) -> tuple[int, int]:
    """Columns and rows as a window can have them."""
    return _within(asked.get("width"), _COLUMNS), _within(asked.get("height"), _ROWS)


def _within(value: object, bounds: tuple[int, int, int]) -> int:
    least, usual, most = bounds
    if not isinstance(value, int) or isinstance(value, bool):
        return usual
    return min(most, max(least, value))


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 6 else None


def _sentence(how: str | None) -> str:
    if how is None:
        return "The window is closed. The chats are kept."
    return f"The window has ended by itself ({how}). The chats are kept."


async def _told(socket: WebSocket, code: int, kind: str, sentence: str) -> None:
    """Say why, and close. A tab that is gone need not know."""
    try:
        await socket.send_json([kind, one_line(sentence)])
        await socket.close(code)
    except (WebSocketDisconnect, RuntimeError):
        return
