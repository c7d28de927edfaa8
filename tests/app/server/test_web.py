"""The window in a browser, by what a browser would say: pages, sockets, and processes behind."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from openchat_local.app.chats import ChatStore
from openchat_local.app.server.guard import Door, digest_of
from openchat_local.app.server.web import sessions, window
from openchat_local.app.server.web.key import web_key
from openchat_local.app.server.web.pages import SOCKET, pages
from openchat_local.app.server.web.sessions import Sessions
from openchat_local.models.errors import OpenChatError
from support.openchat_gguf import openchat_vocabulary, write_model
from support.serving import PATIENCE, Client, serving_program, until
from support.serving import running as served

from .conftest import World

KEY = "a-key-of-24-characters-x"
# A window that says what it is told, ends at the letter q, and with an error at x.
ECHO = """
import os, sys
read, write = sys.stdin.buffer.read, lambda data: os.write(1, data)
def say(text): write(b"D" + len(text).to_bytes(4, "big") + text)
write(b"__GANGLION__\\n")
say(("%s x %s" % (os.environ["COLUMNS"], os.environ["ROWS"])).encode())
while head := read(5):
    payload = read(int.from_bytes(head[1:], "big"))
    if payload == b"x": sys.exit("It is \\033[1m broken.")
    if payload == b"q": break
    say(head[:1] + payload)
"""


class Tab:
    """A tab's socket, and what it was sent."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.drawn = b""
        self.said: list[Any] = []

    def say(self, *words: object) -> None:
        self.socket.send(json.dumps(words))

    def type(self, text: str) -> None:
        self.say("stdin", text)

    def hear(self) -> bool:
        """Take in one message. False at the end."""
        try:
            message = self.socket.recv(timeout=PATIENCE)
        except (ConnectionClosed, TimeoutError):
            return False
        if isinstance(message, bytes):
            self.drawn += message
        else:
            self.said.append(json.loads(message))
        return True

    def until_drawn(self, text: str) -> None:
        while text not in plain(self.drawn):
            assert self.hear(), (text, plain(self.drawn)[-1000:], self.said)

    def until_closed(self) -> tuple[int, Any]:
        """How it was closed, and what was said last."""
        while self.hear():
            pass
        return self.socket.close_code or 0, self.said[-1] if self.said else None


def plain(drawn: bytes) -> str:
    """Without what moves and colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.decode("utf-8", "replace"))


@contextmanager
def tab(client: Client, key: str | None = KEY, query: str = "", **headers: str) -> Iterator[Tab]:
    host = headers.pop("Host", "{}:{}".format(*client.address))
    given = {"Origin": f"http://{host}", **headers}
    origin = given.pop("Origin") or None
    address = "ws://{}:{}{}{}".format(*client.address, SOCKET, query)
    with connect(
        address,
        origin=origin,
        additional_headers=given,
        open_timeout=PATIENCE,  # type: ignore[arg-type]
    ) as socket:
        found = Tab(socket)
        if key is not None:
            found.say("key", key)
        yield found


@pytest.fixture(scope="module")
def echoes() -> Sessions:
    return Sessions([sys.executable, "-c", ECHO], digest_of(KEY), most=2)


@pytest.fixture(scope="module")
def site(world: World, echoes: Sessions) -> Iterator[Client]:
    door = Door(origins=frozenset({"http://localhost:3000"}))
    with served(world.another(), door, echoes) as client:
        yield client


def test_nothing_of_the_page_comes_from_another_host(site: Client) -> None:
    wanted = set()
    for path in pages():
        answer = site.get(path)
        assert answer.status == 200
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; ")
        hosts = set(re.findall(r"wss?://([^\s;]+)", policy))
        assert hosts == {"{}:{}".format(*site.address)}
        assert not re.search(r"https?:|\*|unsafe-eval|script-src[^;]*unsafe", policy)
        text = re.sub(rb"/\*.*?\*/", b"", answer.data, flags=re.DOTALL).decode("latin-1")
        if not path.endswith(".ttf"):
            assert set(re.findall(r"(?:https?:|wss?:)?//[\w-]+\.[\w.]+", text)) <= {
                "http://www.w3.org"  # the name of SVG, which nobody fetches
            }
        if path.endswith(("/", ".css")):
            wanted |= set(re.findall(r"""(?:href|src|url\()=?["'(]+([^"')]+)""", text))
    assert wanted
    assert wanted | {"/"} == set(pages())


def test_without_web_there_is_no_page_and_no_socket(client: Client) -> None:
    assert client.get("/").status == 404
    with pytest.raises(InvalidStatus), tab(client):
        pass


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": ""},
     {"Origin": "http://localhost:3000"}, {"Host": "evil.example"}],
    ids=["evil", "null", "none", "named", "rebound"],
)  # fmt: skip
def test_a_page_of_somebody_elses_opens_no_window(site: Client, headers: dict[str, str]) -> None:
    with pytest.raises(InvalidStatus) as refused, tab(site, **headers):
        pass
    assert refused.value.response.status_code == 403


def test_a_window_wants_a_key_before_anything_of_it_is_begun(
    site: Client, echoes: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in (("key", "wrong"), ("key", None), ("key", [KEY]), ("stdin", KEY), ("key",)):
        with tab(site, key=None) as one:
            one.say(*words)
            assert one.until_closed() == (4401, ["locked", ""])
    for raw in ("[" * 100_000, "{}", "key", b"\xff", ""):
        with tab(site, key=None) as one:
            one.socket.send(raw)
            assert one.until_closed()[0] == 4401
    with monkeypatch.context() as patched:
        patched.setattr(sessions, "KEY_SECONDS", 0.1)
        with tab(site, key=None) as one:
            assert one.until_closed()[1] is None
    assert echoes.open == set()


def test_what_is_typed_goes_in_and_what_is_drawn_comes_out(site: Client) -> None:
    with tab(site, query="?width=100&height=999999999") as one:
        one.until_drawn("100 x 24")
        one.type("你好 👋🏽")
        one.until_drawn("D你好 👋🏽")
        one.socket.send('["stdin", "\\ud83d"]')  # half a pair
        one.until_drawn("D?")
        one.say("resize", {"width": 5000, "height": -1})
        one.until_drawn('{"type": "resize", "width": 1000, "height": 5}')
        one.say("resize", {"width": True})
        one.until_drawn('"width": 80, "height": 24')
        for nonsense in (["no-such"], ["stdin", 1], ["resize", []], [], ["focus", 1, 2]):
            one.say(*nonsense)
        one.say("focus")
        one.until_drawn('{"type": "focus"}')
        one.say("ping", "1")
        one.type("q")
        assert one.until_closed() == (1000, ["ended", "The window is closed. The chats are kept."])
        assert ["pong", "1"] in one.said
    with tab(site) as one:
        one.type("x")
        code, said = one.until_closed()
        assert (code, said[0]) == (4500, "ended")
        assert "exit code 1: It is" in said[1]
        assert "\x1b" not in said[1]


def test_there_are_so_many_windows_and_no_more(site: Client, echoes: Sessions) -> None:
    until(lambda: not echoes.open)
    with tab(site) as one, tab(site) as two:
        one.until_drawn("x")
        two.until_drawn("x")
        with tab(site) as three:
            code, said = three.until_closed()
            assert (code, said[0]) == (4429, "full")
            assert "2 windows" in said[1]
    until(lambda: not echoes.open)
    with tab(site) as again:
        again.until_drawn("x")


def test_a_window_that_does_not_end_with_its_tab_is_killed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "GRACE_SECONDS", 0.1)
    deaf = ECHO.partition("while head")[0] + "import time\nwhile True: say(b'.' * 70000)\n"
    windows = Sessions([sys.executable, "-c", deaf], digest_of(KEY))
    with served(world.another(), Door(), windows) as client:
        with tab(client) as one:
            one.until_drawn("...")
            (process,) = (psutil.Process(id) for id in windows.open)
        until(lambda: not process.is_running())
        assert windows.open == set()
        assert psutil.pid_exists(os.getpid())
        nothing = Sessions(["/no/such/program"], digest_of(KEY))
    with served(world.another(), Door(), nothing) as client, tab(client) as one:
        code, said = one.until_closed()
        assert (code, said[0]) == (4500, "ended")


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_a_window_that_is_killed_says_so(site: Client, echoes: Sessions) -> None:
    until(lambda: not echoes.open)
    with tab(site) as one:
        one.until_drawn("80 x 24")
        (process,) = (psutil.Process(id) for id in echoes.open)
        process.kill()
        code, words = one.until_closed()
        assert code == 4500
        assert "killed by signal 9" in words[1]


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_type_stream_rate_and_the_ends_of_a_window(tmp_path: Path, home: Path) -> None:
    model = write_model(
        tmp_path / "tiny.gguf", openchat_vocabulary(), name="openchat-3.5", embedding=64, heads=2,
        kv_heads=1, blocks=1,
    )  # fmt: skip
    options = ("--context", "512", "--max-tokens", "12", "--seed", "1")
    (keys := tmp_path / "keys").write_text(f"{KEY}\n")
    keys.chmod(0o600)
    door = ("--api-key-file", str(keys))
    with serving_program("-m", model, "--web", *options, *door) as (server, client):
        assert server.stdout is not None
        said = server.stdout.readline()
        assert f"The window is at {client.url}/" in said
        key = (home / "web-key").read_text().strip()
        assert key not in said  # no person reads it
        with tab(client, KEY) as one:  # the API's, for replies alone
            assert one.until_closed() == (4401, ["locked", ""])

        with tab(client, key, "?width=100&height=30") as one:
            one.until_drawn("Write a prompt")
            for character in "Hi 你好":
                one.type(character)
            one.type("\r")
            with chats_of(home) as store:
                one.until_drawn("ended at the token limit")
                prompt, reply = everything(store)
                assert (prompt.content, reply.finish_reason) == ("Hi 你好", "length")
                assert (reply.model, reply.condition) == ("tiny", "GPT4 Correct")
                assert reply.usage["generated_tokens"] == 12
                assert len(reply.content) > 5
                one.type("\x1b[1;3A")  # Alt+Up selects the reply
                one.until_drawn("+ − rate")
                one.type("+")
                until(lambda: everything(store)[-1].rating == 1)
            one.type("\x1b[200~a draft\x1b[201~")
            (process,) = children(server.pid)
        until(lambda: not process.is_running())  # with its tab, and nothing is lost
        with chats_of(home) as store:
            assert "a draft" in [chat.draft for chat in store.chats()]

        with tab(client, key) as one:
            one.until_drawn("0 / 512")  # its model, which is the server's, is ready
            (process,) = children(server.pid)
            server.send_signal(signal.SIGTERM)
            assert one.until_closed()[0] == 1012
        assert server.wait(PATIENCE) == 0
        assert not process.is_running()


def everything(store: ChatStore) -> list[Any]:
    chats = store.chats()
    return store.branch(chats[0].id) if chats else []


@contextmanager
def chats_of(home: Path) -> Iterator[ChatStore]:
    store = ChatStore.open(home)
    try:
        yield store
    finally:
        store.close()


def children(server: int) -> list[psutil.Process]:
    """The windows of a server."""
    found = []
    for child in psutil.Process(server).children():
        with suppress(psutil.NoSuchProcess):
            if "chat" in child.cmdline():
                found.append(child)
    return found


def test_the_key_is_made_once_and_is_for_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "web-key"
    key = web_key(path)
    assert len(key) >= 24
    assert web_key(path) == key
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o644)
        with pytest.raises(OpenChatError, match="read by others"):
            web_key(path)
    path.chmod(0o600)
    for text in ("", "short", "a key with spaces in it, which no address has", "\x1b[2J" * 9):
        path.write_text(text)
        with pytest.raises(OpenChatError, match="holds no key") as told:
            web_key(path)
        assert not text or text not in str(told.value)
