"""A real server on loopback, in a thread of the test's own process, and plain requests to it."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from openchat_local.app.server.application import application
from openchat_local.app.server.guard import Door
from openchat_local.app.server.running import listen, server_of
from openchat_local.app.server.state import Serving
from openchat_local.app.server.web.sessions import Sessions
from support.programs import PROGRAM

PATIENCE = 90.0  # seconds: only a failing test waits so long


@dataclass(frozen=True)
class Answer:
    """What came back, whole."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def error(self) -> dict[str, Any]:
        """What OpenAI's clients look for."""
        found: dict[str, Any] = self.json["error"]
        assert set(found) == {"message", "type", "param", "code"}
        return found

    @property
    def events(self) -> list[Any]:
        """Those of a stream that ended as it should."""
        lines = self.data.decode().split("\n\n")
        found = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        assert found[-1] == "[DONE]"
        return [json.loads(line) for line in found[:-1]]


@dataclass(frozen=True)
class Client:
    """Asks one server. `headers` go with every request."""

    url: str
    headers: Mapping[str, str]

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Header names are written with underscores."""
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, {**self.headers, **given})
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.ask("POST", path, data, **{"Content_Type": "application/json", **headers})

    def chat(self, text: str = "Hello!", **more: Any) -> Answer:
        """One user turn, greedy and short unless said otherwise."""
        body = {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 8}
        return self.post("/v1/chat/completions", body | more)

    def socket(self) -> socket.socket:
        """A connection, and nothing said on it."""
        return socket.create_connection(self.address, timeout=PATIENCE)


@contextmanager
def running(
    serving: Serving, door: Door | None = None, windows: Sessions | None = None, **headers: str
) -> Iterator[Client]:
    """Serve in a thread until the block ends."""
    place = listen("127.0.0.1", 0, secured=False)
    app = application(serving, door or Door(), windows)
    server = server_of(app, sockets=windows is not None)
    thread = threading.Thread(target=server.run, args=([place.socket],))
    thread.start()
    try:
        yield Client(place.url, headers)
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


@contextmanager
def serving_program(
    *arguments: str | Path, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    """The running program, and a client of it."""
    process = subprocess.Popen(
        [*PROGRAM, "serve", "--port", "0", *map(str, arguments)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | environment,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"at (https?://\S+)/v1 ", line)
        assert found, (line, process.communicate(timeout=60))
        yield process, Client(found[1], {})
    finally:
        process.kill()
        process.communicate()


def until(holds: Callable[[], object]) -> None:
    """Return once it holds: for what another thread does."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)
