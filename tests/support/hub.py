"""A server on loopback that speaks the Hugging Face hub's protocol, and can be unwell.

The API lists a repository's files with sizes and hashes; `resolve` redirects to another
origin, as the hub does to its content network, which serves ranges.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

REPOSITORY = "TheBloke/openchat-3.5-0106-GGUF"
FILE = "openchat-3.5-0106.Q4_K_M.gguf"
REVISION = "0123456789abcdef0123456789abcdef01234567"
_CHUNK = 64 * 1024


@dataclass
class Answer:
    """How one request is answered instead of well: a `status` with `headers`, or the content
    until `after` bytes, and then the connection is `cut` or nothing more comes (`stall`)."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    after: int | None = None
    cut: bool = False
    stall: bool = False
    ranges: bool = True
    content: bytes | None = None


@dataclass
class Request:
    """What somebody asked for: method, path, and headers by their names in lower case."""

    method: str
    path: str
    headers: dict[str, str]


class FakeHub:
    """`repositories` are files by name by OWNER/REPOSITORY. `api`, `resolve` and `content` are
    answers to the next requests of each kind; when they are used up, all is well."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.licence = "apache-2.0"
        self.api: list[Answer] = []
        self.resolve: list[Answer] = []
        self.content: list[Answer] = []
        self.requests: list[Request] = []
        self.served = 0
        self.announced: dict[str, str | None] = {}
        self.stalled = threading.Event()
        self.may_go_on = threading.Event()
        hub = self

        class Handler(_Handler):
            owner = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.may_go_on.set()
        self._server.shutdown()
        self._server.server_close()

    def environment(self) -> dict[str, str]:
        """What makes huggingface_hub talk to this server, with no token of whoever tests."""
        return {"HF_ENDPOINT": self.endpoint, "HF_HUB_DISABLE_IMPLICIT_TOKEN": "", "HF_TOKEN": ""}

    def content_requests(self) -> list[Request]:
        return [r for r in self.requests if r.path.startswith("/content/")]

    def sha256(self, repository: str, name: str) -> str:
        return hashlib.sha256(self.repositories[repository][name]).hexdigest()

    def listing(self, repository: str) -> bytes:
        files = self.repositories[repository]
        siblings = []
        for name, content in files.items():
            sha256 = self.announced.get(name, self.sha256(repository, name))
            lfs = {"sha256": sha256, "size": len(content), "pointerSize": 134}
            siblings.append(
                {"rfilename": name, "size": len(content), "blobId": "0" * 40}
                | ({"lfs": lfs} if sha256 else {})
            )
        return json.dumps(
            {
                "id": repository,
                "modelId": repository,
                "sha": REVISION,
                "private": False,
                "gated": False,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "cardData": {"license": self.licence},
                "siblings": siblings,
            }
        ).encode()


class _Handler(BaseHTTPRequestHandler):
    owner: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        hub = self.owner
        path = unquote(urlsplit(self.path).path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        hub.requests.append(Request("GET", path, headers))
        if path.startswith("/api/models/"):
            self._api(path.removeprefix("/api/models/").partition("/revision/")[0])
        elif path.startswith("/content/"):
            self._content(path.removeprefix("/content/"))
        else:
            self._resolve(path[1:])

    def log_message(self, *_: object) -> None:
        pass

    def _api(self, repository: str) -> None:
        hub = self.owner
        answer = hub.api.pop(0) if hub.api else Answer()
        if answer.status is not None:
            self._refuse(answer)
        elif answer.content is not None:
            self._send(200, answer.content, {"Content-Type": "text/html"})
        elif repository in hub.repositories:
            self._send(200, hub.listing(repository), {"Content-Type": "application/json"})
        else:
            self._refuse(Answer(401, {"X-Error-Code": "RepoNotFound"}))

    def _resolve(self, path: str) -> None:
        repository, _, rest = path.partition("/resolve/")
        name = rest.partition("/")[2]
        if self.owner.resolve:
            self._refuse(self.owner.resolve.pop(0))
            return
        if name not in self.owner.repositories.get(repository, {}):
            self._refuse(Answer(404, {"X-Error-Code": "EntryNotFound"}))
            return
        # "localhost" is another origin than "127.0.0.1": a token must not go there.
        place = f"http://localhost:{self.owner.port}/content/{repository}/{name}"
        self._send(302, b"", {"Location": place})

    def _content(self, path: str) -> None:
        hub = self.owner
        owner, name_of_repository, name = path.split("/", 2)
        answer = hub.content.pop(0) if hub.content else Answer()
        if answer.status is not None:
            self._refuse(answer)
            return
        content = hub.repositories[f"{owner}/{name_of_repository}"][name]
        if answer.content is not None:
            content = answer.content
        start = self._start() if answer.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        end = len(content) if answer.after is None else min(len(content), start + answer.after)
        try:
            for position in range(start, end, _CHUNK):
                chunk = content[position : min(position + _CHUNK, end)]
                self.wfile.write(chunk)
                hub.served += len(chunk)
            if answer.stall:
                self.wfile.flush()
                hub.stalled.set()
                hub.may_go_on.wait(30)
            if answer.cut or answer.stall:
                self.close_connection = True
        except OSError:
            self.close_connection = True  # the client is gone

    def _start(self) -> int:
        wanted = self.headers.get("Range")
        return int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0

    def _refuse(self, answer: Answer) -> None:
        assert answer.status is not None
        self._send(answer.status, b'{"error": "no"}', answer.headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A hub that is there until the end of the block."""
    hub = FakeHub()
    try:
        yield hub
    finally:
        hub.close()
