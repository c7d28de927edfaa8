"""What goes back over the wire, and how a client that has left is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from openchat_local.app.server.errors import ApiError, fault
from openchat_local.app.server.shapes import dumped, error_event

Result = TypeVar("Result")
SEND_SECONDS = 60.0
"""How long a client may take to read what it was sent."""


class Json(Response):
    """A JSON answer."""

    media_type = "application/json"

    def __init__(
        self, value: Any, headers: Mapping[str, str] | None = None, status: int = 200
    ) -> None:
        super().__init__(dumped(value), status, headers)

    @classmethod
    def of(cls, error: ApiError) -> Json:
        """An error's answer."""
        return cls(error.body, error.headers, error.status)


class Nothing(Response):
    """For a client that has left."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        return


class EventStream(Response):
    """Server-sent events as they come. What goes wrong on the way is the last of them."""

    def __init__(
        self, events: AsyncGenerator[bytes, None], headers: Mapping[str, str] | None = None
    ) -> None:
        given = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", **(headers or {})}
        super().__init__(b"", 200, given, "text/event-stream")
        del self.headers["content-length"]
        self.fault: Exception | None = None
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._events):
            with suppress(ClientDisconnect):  # nobody is there to be told
                await unless_gone(receive, self._send_all(send))

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async for event in self._events:
                await self._part(send, event)
        except ApiError as error:
            await self._part(send, error_event(error))
        except ClientDisconnect:
            raise
        except Exception as problem:  # noqa: BLE001 - the status is on its way: this is all left
            self.fault = problem
            await self._part(send, error_event(fault()))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _part(self, send: Send, data: bytes) -> None:
        part = {"type": "http.response.body", "body": data, "more_body": True}
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await send(part)
        except TimeoutError:
            raise ClientDisconnect from None


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """What `work` returns; where the client leaves meanwhile it is cancelled, and
    ClientDisconnect raised. The request's body must have been read."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
