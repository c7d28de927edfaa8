"""A server on loopback that speaks as OpenAI's API does, and does as a test says."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Asked:
    """What a client sent."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


class Exchange(BaseHTTPRequestHandler):
    """One request, and words to answer it with."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        self._do()

    def do_POST(self) -> None:
        self._do()

    def _do(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        data = self.rfile.read(size)
        asked = Asked(self.command, self.path, dict(self.headers), json.loads(data or "null"))
        self.server.bare.asked.append(asked)
        with suppress(ConnectionError):
            answer = self.server.bare.answers.get(self.path, Exchange.nothing_here)
            answer(self)

    @property
    def asked(self) -> Asked:
        found: Asked = self.server.bare.asked[-1]
        return found

    def nothing_here(self) -> None:
        self.json({"error": {"message": "nothing here"}}, 404)

    def json(self, value: Any, status: int = 200, **headers: str) -> None:
        self.whole(json.dumps(value).encode(), "application/json", status, **headers)

    def whole(self, data: bytes, kind: str, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def event(self, value: Any) -> None:
        text = value if isinstance(value, str) else json.dumps(value)
        data = f"data: {text}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def delta(self, reason: str | None = None, **delta: str) -> None:
        self.event({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

    def end_stream(self) -> None:
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def break_off(self) -> None:
        """The connection is gone, with no last word."""
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def says(self, *texts: str, usage: Mapping[str, Any] | None = None) -> None:
        """A whole reply."""
        self.begin_stream()
        for text in texts:
            self.delta(content=text)
        self.delta("stop")
        if usage:
            self.event({"choices": [], "usage": usage})
        self.end_stream()

    def says_nothing(self) -> None:
        """A stream that is over at once."""
        self.begin_stream()
        self.end_stream()

    def until_gone(self) -> None:
        """Block until the client has left."""
        with suppress(OSError):
            self.connection.recv(1)
        self.server.bare.gone.set()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has left is none."""


Answer = Callable[[Exchange], None]


@dataclass
class Bare:
    """What the server answers at each path; "gpt" is all that it has unless said otherwise."""

    url: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)

    def lists(self, *models: Mapping[str, Any]) -> None:
        self.answers["/v1/models"] = lambda exchange: exchange.json({"data": [*models]})

    def replies(self, answer: Answer) -> None:
        self.answers["/v1/chat/completions"] = answer

    @property
    def chats(self) -> list[Asked]:
        """What was asked that holds words."""
        return [one for one in self.asked if one.path == "/v1/chat/completions"]


@contextmanager
def bare_server() -> Iterator[Bare]:
    """One that runs until the block ends."""
    server: Any = _Server(("127.0.0.1", 0), Exchange)
    bare = Bare(f"http://127.0.0.1:{server.server_address[1]}/v1")
    bare.lists({"id": "gpt"})
    bare.replies(lambda exchange: exchange.says("Hello", " there."))
    server.bare = bare
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield bare
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def error(status: int, message: str = "so it is", **headers: str) -> Answer:
    """Refuses whatever it is asked."""
    return lambda exchange: exchange.json({"error": {"message": message}}, status, **headers)
