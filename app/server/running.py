"""The server as a process sees it: its socket, its certificate, its end."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from openchat_local.app.server.guard import is_loopback
from openchat_local.models.errors import OpenChatError
from openchat_local.models.system.network import require_network

HEADER_SECONDS = 10.0
"""From a connection, or a request's first byte, to the end of its headers."""
_HEADER_BYTES = 32 * 1024
_MESSAGE_BYTES = 16 * 1024**2  # what somebody pastes into a window in a browser is one
_KEEP_ALIVE_SECONDS = 30
_CONNECTIONS = 256
_BACKLOG = 128
DRAIN_SECONDS = 60
"""What is being answered at the end may take so long; then it is cut off with an error."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server listens: a socket that is bound, what leads there, whether this machine alone
    can come, and the files of a certificate and its key, None without TLS."""

    socket: socket.socket
    url: str
    loopback: bool
    certificate: tuple[Path, Path] | None = None


def listen(
    host: str, port: int, *, secured: bool, certificate: tuple[Path, Path] | None = None
) -> Place:
    """Take an address and port, 0 for one that is free. `secured` says whether a key is asked
    for: without one only this machine itself may come in. Raises OpenChatError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise OpenChatError(
            f"There is no address for --host {host} ({error.strerror}): give one of this machine's."
        ) from error
    local = is_loopback([str(one[4][0]) for one in found])
    if not local:
        require_network(f"Serving on {host}")
        if not secured:
            raise OpenChatError(
                f"--host {host} lets other machines in, so that an API key is needed: put one into "
                "a file for --api-key-file, or into OPENCHAT_LOCAL_API_KEY."
            )
    problem = OSError(errno.EADDRNOTAVAIL, "no address")
    for family, _, _, _, address in found:  # "localhost" may have one that is switched off
        try:
            taken = _bound(family, str(address[0]), port)
        except OSError as error:
            problem = error
            continue
        shown = f"[{address[0]}]" if family == socket.AF_INET6 else str(address[0])
        actual = taken.getsockname()[1]
        scheme = "http" if certificate is None else "https"
        return Place(taken, f"{scheme}://{shown}:{actual}", local, certificate)
    raise _cannot_listen(problem, host, port) from problem


def _bound(family: int, address: str, port: int) -> socket.socket:
    # With TCP by its number asyncio switches Nagle's algorithm off: an answer in two pieces would
    # else wait 40 ms for the first one to be acknowledged.
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere it would let two programs have one port
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taken.bind((address, port))
        taken.listen(_BACKLOG)
    except BaseException:
        taken.close()
        raise
    return taken


def _cannot_listen(error: OSError, host: str, port: int) -> OpenChatError:
    if error.errno == errno.EADDRINUSE:
        return OpenChatError(
            f"The port {port} of {host} is taken by another program: choose another with --port, "
            "or 0 for any that is free."
        )
    if error.errno == errno.EACCES:
        return OpenChatError(f"The port {port} is reserved to the system: choose one above 1023.")
    if error.errno == errno.EADDRNOTAVAIL:
        return OpenChatError(f"{host} is no address of this machine: give another --host.")
    return OpenChatError(f"{host}:{port} cannot be listened on ({error.strerror}).")


def within(place: Place) -> Place:
    """Where this machine's own processes reach the server of `place` without a certificate: a
    socket on 127.0.0.1, the same one where it listens there in the open. Raises OpenChatError."""
    if place.loopback and place.certificate is None:
        return place
    try:
        taken = _bound(socket.AF_INET, "127.0.0.1", 0)
    except OSError as error:
        raise _cannot_listen(error, "127.0.0.1", 0) from error
    return Place(taken, f"http://127.0.0.1:{taken.getsockname()[1]}", loopback=True)


def server_of(
    app: ASGIApp,
    certificate: tuple[Path, Path] | None = None,
    *,
    sockets: bool = False,
    inner: socket.socket | None = None,
) -> uvicorn.Server:
    """A server that is not running yet; `certificate` is the file of a certificate and that of
    its key, as `check_certificate` found them; `sockets` are the WebSockets of a browser. On
    `inner` it listens beside its own place, without the certificate."""
    files: dict[str, Any] = {}
    if certificate is not None:
        files = {"ssl_certfile": str(certificate[0]), "ssl_keyfile": str(certificate[1])}
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=ImpatientProtocol,
        ws="websockets-sansio" if sockets else "none",
        ws_max_size=_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        **files,
    )
    return uvicorn.Server(config) if inner is None else _WithInner(config, inner)


class _WithInner(uvicorn.Server):
    """One that listens on a second socket, without the certificate of the first."""

    def __init__(self, config: uvicorn.Config, inner: socket.socket) -> None:
        super().__init__(config)
        self._inner = inner

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)

        def protocol() -> asyncio.Protocol:
            return ImpatientProtocol(self.config, self.server_state, {})

        loop = asyncio.get_running_loop()
        self.servers.append(await loop.create_server(protocol, sock=self._inner))  # closed with it


def check_certificate(certificate: Path, key: Path) -> None:
    """Raise OpenChatError unless these files are a certificate and its key, without a password:
    nobody is there to be asked for one."""

    def refuse() -> str:
        raise OpenChatError("its key has a password")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, refuse)
    except (OSError, OpenChatError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OpenChatError(
            f"The certificate cannot be used ({reason}): give a PEM file with --tls-cert, and "
            "that of its key, which has no password, with --tls-key."
        ) from error


@contextmanager
def ended_by(act: Callable[[], None]) -> Iterator[None]:
    """Let SIGTERM end this process as Ctrl-C does, once uvicorn has let everybody finish; and
    call `act` at the end, however it comes."""
    import signal

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        act()


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 to clients that say within seconds what they want. A connection whose headers
    never end would otherwise be held for ever."""

    _deadline: asyncio.TimerHandle | None = None
    _upgraded = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._upgraded:
            return
        cycle: RequestResponseCycle | None = self.cycle  # none before the first request
        if cycle is not None and not cycle.response_complete:
            self._expect_no_more()
        else:
            self._expect()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        super().handle_websocket_upgrade(event)
        self._upgraded = True  # whose connection it is no longer ours to end
        self._expect_no_more()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # What has come of the next request while this one was answered.
        if self.conn.trailing_data[0]:
            self._expect()

    def _expect(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self._too_late)

    def _expect_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()
