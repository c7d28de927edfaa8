"""The server as an ASGI application: paths, and what all of them have in common."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openchat_local.app.printable import one_line
from openchat_local.app.server import listing, tokens
from openchat_local.app.server.chat import chat_completions
from openchat_local.app.server.completions import completions
from openchat_local.app.server.docs import docs_page, openapi
from openchat_local.app.server.embeddings import embeddings
from openchat_local.app.server.errors import ApiError, fault, told
from openchat_local.app.server.guard import Door
from openchat_local.app.server.responses import EventStream, Json, Nothing, unless_gone
from openchat_local.app.server.state import Serving
from openchat_local.app.server.web.pages import SOCKET, page, pages
from openchat_local.app.server.web.sessions import Sessions
from openchat_local.models.errors import OpenChatError

MOST_BYTES = 16 * 1024**2
"""Of a body."""
BODY_SECONDS = 30.0
"""From a request's headers to the end of its body."""
_LOGGED_TEXT = 2000

Posted = Callable[[Serving, bytes], Awaitable[Response]]
Got = Callable[[Serving], Awaitable[Response]]
_POSTED: dict[str, Posted] = {
    "/v1/chat/completions": chat_completions,
    "/v1/completions": completions,
    "/v1/embeddings": embeddings,
    "/tokenize": tokens.tokenize,
    "/detokenize": tokens.detokenize,
}
_GOT: dict[str, Got] = {
    "/v1/models": listing.models,
    "/health": listing.health,
    "/metrics": listing.metrics,
    "/props": tokens.props,
    "/tokenizer_info": tokens.tokenizer_info,
    "/openapi.json": openapi,
    "/docs": docs_page,
}


def application(serving: Serving, door: Door, windows: Sessions | None = None) -> ASGIApp:
    """What uvicorn runs, with `windows` also the one for a browser. Belongs to one event loop,
    that of `serving`."""
    serving.metrics.watch(serving.places)

    async def one_model(serving: Serving, request: Request) -> Response:
        return await listing.model(serving, request.path_params["id"])

    routes: list[BaseRoute] = [
        *(Route(path, _posting(serving, what), methods=["POST"]) for path, what in _POSTED.items()),
        *(Route(path, _getting(serving, what), methods=["GET"]) for path, what in _GOT.items()),
        Route("/v1/models/{id:path}", _answered(serving, one_model), methods=["GET"]),
    ]
    if windows is not None:
        routes += [Route(path, page, methods=["GET"]) for path in pages()]
        routes.append(WebSocketRoute(SOCKET, windows))
    paths = Starlette(routes=routes, exception_handlers={HTTPException: _not_found})
    own = frozenset(pages()) if windows is not None else frozenset()
    return Entrance(paths, serving, door, own)


def _posting(serving: Serving, what: Posted) -> Callable[[Request], Awaitable[Response]]:
    async def post(serving: Serving, request: Request) -> Response:
        data = await _body(request)
        request.state.text = data
        return await unless_gone(request.receive, _awaited(what(serving, data)))

    return _answered(serving, post)


def _getting(serving: Serving, what: Got) -> Callable[[Request], Awaitable[Response]]:
    async def get(serving: Serving, request: Request) -> Response:
        return await what(serving)

    return _answered(serving, get)


async def _awaited(answer: Awaitable[Response]) -> Response:
    return await answer


def _answered(
    serving: Serving, what: Callable[[Serving, Request], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint whose errors are answers."""

    async def endpoint(request: Request) -> Response:
        try:
            response = await what(serving, request)
        except OpenChatError as error:
            return Json.of(told(error, serving.loaded.context))
        except ClientDisconnect:
            return Nothing()
        except Exception as error:  # noqa: BLE001 - the client is told, and the log has it
            serving.report(error)
            return Json.of(fault())
        if isinstance(response, EventStream):
            request.state.stream = response
        return response

    return endpoint


async def _body(request: Request) -> bytes:
    """What was sent, if it is not too much and comes in time. Raises ApiError."""
    close = {"Connection": "close"}  # what is still to come is not read
    size = f"{MOST_BYTES // 1024**2} MiB"
    too_much = ApiError(413, f"The body is larger than {size}: send less.", headers=close)
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MOST_BYTES:
        raise too_much
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                data += chunk
                if len(data) > MOST_BYTES:
                    raise too_much
    except TimeoutError:
        late = f"The body did not come within {BODY_SECONDS:.0f} s: send it again."
        raise ApiError(408, late, headers=close) from None
    return bytes(data)


async def _not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        wrong = ApiError(405, f"{request.method} is not for this path.", headers=error.headers)
    else:
        wrong = ApiError(
            error.status_code,
            f"There is nothing at {request.url.path[:100]!r}: /docs lists what there is.",
            code="not_found",
        )
    return Json.of(wrong)


class Entrance:
    """The door around all paths; a line for the log, and the counts, behind."""

    def __init__(
        self, app: ASGIApp, serving: Serving, door: Door, pages: frozenset[str] = frozenset()
    ) -> None:
        self._app = app
        self._pages = pages
        self._serving = serving
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        began, status = time.monotonic(), 0
        scope.setdefault("state", {})
        origin: str | None = None

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *_common(origin)]
            await send(message)

        try:
            if scope["path"] in self._pages:
                self._door.visit(scope["headers"])
            else:
                origin = self._door.check(scope["method"], scope["path"], scope["headers"])
            preflight = scope["method"] == "OPTIONS" and origin is not None
            await (_allowed if preflight else self._app)(scope, receive, sent)
        except ApiError as error:
            await Json.of(error)(scope, receive, sent)
        finally:
            self._note(scope, status, time.monotonic() - began)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A handshake; a page of somebody else's gets no answer but a refusal."""
        try:
            self._door.visit(scope["headers"], by_page=True)
            await self._app(scope, receive, send)
        except ApiError as error:
            self._serving.log(one_line(f"A window is refused: {error}"))
            await send({"type": "websocket.close", "code": 1008})
        except Exception as error:
            self._serving.report(error)
            raise

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        serving, path, state = self._serving, scope["path"], scope["state"]
        known = path in _POSTED or path in _GOT or path.startswith("/v1/models/")
        route = path if path in _POSTED or path in _GOT else "/v1/models/…" if known else "other"
        serving.metrics.request(route, status, seconds)
        stream = state.get("stream")
        if stream is not None and stream.fault is not None:
            serving.report(stream.fault)
        said = "left" if status == 0 else str(status)
        serving.log(one_line(f"{scope['method']} {path[:200]} {said} {seconds:.2f} s"))
        if serving.log_text and state.get("text"):
            text = state["text"].decode("utf-8", "replace")
            serving.log(f"  {one_line(text[:_LOGGED_TEXT])}")


def _common(origin: str | None) -> list[tuple[bytes, bytes]]:
    """Headers of every answer."""
    headers = [(b"x-content-type-options", b"nosniff")]
    if origin is not None:
        headers += [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-expose-headers", b"Retry-After, X-Ignored-Parameters"),
            (b"vary", b"Origin"),
        ]
    return headers


async def _allowed(scope: Scope, receive: Receive, send: Send) -> None:
    """To a browser that asks whether a page that was named may ask."""
    headers = {
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Requested-With",
        "Access-Control-Max-Age": "600",
    }
    await Response(status_code=204, headers=headers)(scope, receive, send)
