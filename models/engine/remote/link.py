"""HTTP to a remote engine, through the `openai` client: questions, and replies that stream."""

from __future__ import annotations

import queue
import socket
import ssl
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from openchat_local.models.engine.remote.faults import Unreachable, fault_of, no_api, said_in
from openchat_local.models.engine.remote.habits import Habits
from openchat_local.models.engine.remote.options import RemoteOptions
from openchat_local.models.errors import EngineError, OpenChatError
from openchat_local.models.system.network import require_network

if TYPE_CHECKING:
    from openai import DefaultHttpxClient, OpenAI

_ANSWER_SECONDS = 60.0  # for a question that is no reply
_HEADERS = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "content-type", "host"}
)
"""All that a server is told beside what it is asked: the library would add facts about this
machine, and what its own environment variables say."""
_CONNECTED = frozenset({"connection.connect_tcp.complete", "connection.start_tls.complete"})
_END = object()


class Link:
    """Asks one server. Each reply has a connection of its own, so that it can be ended at once."""

    def __init__(self, options: RemoteOptions) -> None:
        """Raises EngineError without the library, or without the key; OfflineError where the
        network is shut off and the server is not on this machine."""
        if not options.address.loopback:
            require_network(f"The engine at {options.address.place}")
        _need_library()
        self.options = options
        self.habits = Habits()
        self._key = options.key()
        self._asking: tuple[Any, OpenAI, OpenAI] | None = None
        self._lock = threading.Lock()

    def get(self, path: str, *, root: bool = False) -> Any:
        """The JSON at a path of the API; of the server's own, with `root`. Raises EngineError."""
        return self._ask("get", path, None, root=root)

    def post(self, path: str, body: dict[str, Any], *, root: bool = False) -> Any:
        """The JSON that comes back. Raises EngineError."""
        return self._ask("post", path, body, root=root)

    def stream(self, path: str, body: dict[str, Any]) -> Exchange:
        """A reply that streams; it begins at once."""
        return Exchange(self, path, body)

    def close(self) -> None:
        with self._lock:
            asking, self._asking = self._asking, None
        if asking is not None:
            asking[0].close()

    def _ask(self, method: str, path: str, body: dict[str, Any] | None, *, root: bool) -> Any:
        for again in (True, False):
            with self._lock:
                if self._asking is None:
                    http = self.http_client(_ANSWER_SECONDS)
                    address = self.options.address
                    self._asking = (
                        http,
                        self.client(http, address.base),
                        self.client(http, address.root),
                    )
                _, api, above = self._asking
            client = above if root else api
            try:
                if method == "get":
                    answer = client.get(path, cast_to=object)
                else:
                    answer = client.post(path, body=body, cast_to=object)
            except Exception as error:
                fault = fault_of(error, self.options)
                if again and isinstance(fault, Unreachable) and fault.again:
                    continue  # nothing was sent
                raise fault from error
            if not isinstance(answer, dict | list):
                raise no_api(self.options)
            return answer
        raise AssertionError("the second try returns or raises")

    def http_client(self, seconds: float, sockets: Sockets | None = None) -> DefaultHttpxClient:
        """One that goes nowhere else: no redirects, for words on this machine no proxy."""
        import openai

        key, address = self._key, self.options.address
        kept_here: dict[str, Any] = {"trust_env": not address.loopback}
        if not address.encrypted:  # all authorities would be read for nothing
            kept_here["verify"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        elif address.loopback:
            kept_here["verify"] = ssl.create_default_context()  # which knows SSL_CERT_FILE

        def say_no_more(request: Any) -> None:
            for name in [name for name in request.headers if name.lower() not in _HEADERS]:
                del request.headers[name]
            request.headers["User-Agent"] = "openchat-local"
            if key is not None:
                request.headers["Authorization"] = f"Bearer {key}"
            if sockets is not None:
                request.extensions["trace"] = sockets.traced

        return openai.DefaultHttpxClient(
            follow_redirects=False,
            **kept_here,
            timeout=openai.Timeout(seconds, connect=self.options.connect_seconds),
            event_hooks={"request": [say_no_more]},
        )

    def client(self, http: DefaultHttpxClient, base: str) -> OpenAI:
        import openai

        # The key is put in last of all, above: here the library would look for one of its own.
        return openai.OpenAI(
            api_key="none", base_url=base, http_client=http, max_retries=0, timeout=http.timeout
        )


class Sockets:
    """The sockets of one exchange, which another thread may shut: whoever waits for one of them
    is woken by that, and the server sees its client leave."""

    def __init__(self) -> None:
        self._open: list[socket.socket] = []
        self._shut = False
        self._lock = threading.Lock()

    def traced(self, name: str, info: dict[str, Any]) -> None:
        """Told by the library what it does."""
        if name not in _CONNECTED:
            return
        found = info["return_value"].get_extra_info("socket")
        with self._lock:
            self._open.append(found)
            if not self._shut:
                return
        self.shut()

    def shut(self) -> None:
        with self._lock:
            self._shut = True
            opened = list(self._open)
        for one in opened:
            with suppress(OSError, AttributeError):
                # The plain socket's: an encrypted one would take its state from under the reader.
                socket.socket.shutdown(one, socket.SHUT_RDWR)


class Exchange:
    """One streamed reply, read in a thread of its own."""

    def __init__(self, link: Link, path: str, body: dict[str, Any]) -> None:
        self._link = link
        self._path = path
        self._body = body
        self._sockets = Sockets()
        self._found: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._closed = threading.Event()
        self.begun = False
        """Whether the server has begun to answer."""
        threading.Thread(target=self._read, name="remote-reply", daemon=True).start()

    def next(self, seconds: float) -> dict[str, Any] | None:
        """The next chunk, as JSON; None at the end. Raises queue.Empty where none comes within
        `seconds`, or EngineError."""
        found = self._found.get(timeout=seconds)
        if found is _END:
            return None
        if isinstance(found, OpenChatError):
            raise found
        chunk: dict[str, Any] = found
        return chunk

    def close(self) -> None:
        """End it now; harmless at any time. `next` then gives None."""
        self._closed.set()
        self._found.put(_END)
        self._sockets.shut()

    def _read(self) -> None:
        try:
            for again in (True, False):
                try:
                    self._read_once()
                    break
                except Exception as error:  # noqa: BLE001 - the library's own, one and all
                    fault = fault_of(error, self._link.options)
                    if (
                        not (again and isinstance(fault, Unreachable) and fault.again)
                        or self._closed.is_set()
                    ):
                        self._found.put(fault)
                        break
        finally:
            self._found.put(_END)

    def _read_once(self) -> None:
        import openai

        with self._link.http_client(self._link.options.silent_seconds, self._sockets) as http:
            client = self._link.client(http, self._link.options.address.base)
            with client.post(
                self._path, body=self._body, cast_to=object, stream=True,
                stream_cls=openai.Stream[object],
            ) as stream:  # fmt: skip
                if "event-stream" not in stream.response.headers.get("content-type", ""):
                    self._put_whole(stream.response)
                    return
                self.begun = True
                for chunk in stream:
                    if self._closed.is_set():
                        return
                    if isinstance(chunk, dict):
                        self._found.put(chunk)

    def _put_whole(self, response: Any) -> None:
        """An answer in one piece, of a server that does not stream; or none at all."""
        response.read()
        answer = response.json()  # ValueError: no API
        if not isinstance(answer, dict) or not isinstance(answer.get("choices"), list):
            raise said_in(answer, self._link.options)
        self.begun = True
        self._found.put(answer)


def _need_library() -> None:
    from importlib.util import find_spec

    from openchat_local.models.system.installing import install_command

    if find_spec("openai") is None:
        raise EngineError(
            "A remote engine is asked through the package openai: "
            f"{install_command('openchat-local[remote]')}"
        )
