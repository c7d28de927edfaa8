"""Who may ask, and what is done with those who only hold on."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from openchat_local.app.server import application, running
from openchat_local.app.server.errors import ApiError
from openchat_local.app.server.guard import Door, digest_of, keys_of, origin_named
from openchat_local.models.errors import OpenChatError
from openchat_local.models.system.network import VARIABLE
from support.serving import Client, until
from support.serving import running as served

from .conftest import World

KEY = "a-key-of-24-characters-x"


@pytest.fixture(scope="module")
def locked(world: World) -> Iterator[Client]:
    door = Door(
        keys=(digest_of("another-key-that-is-good"), digest_of(KEY)),
        origins=frozenset({"http://localhost:3000"}),
    )
    with served(world.another(), door) as client:
        yield client


def test_without_its_key_nothing_but_the_health_is_told(locked: Client) -> None:
    assert locked.get("/health").json == {"status": "ok"}
    for path in ("/v1/models", "/metrics", "/docs", "/no-such-path"):
        answer = locked.get(path)
        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    for shown in ("", KEY, f"Basic {KEY}", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", "Bearer ü"):
        assert locked.ask("GET", "/v1/models", Authorization=shown).status == 401
    assert locked.get("/v1/models", Authorization=f"Bearer {KEY}").status == 200
    assert locked.chat().status == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1", "[::2]:80",
             "a b", "localhost@evil.example", "0x7f.1", ""],
)  # fmt: skip
def test_a_name_that_was_pointed_here_is_not_answered(host: str, client: Client) -> None:
    answer = client.get("/v1/models", Host=host)
    assert answer.status in (400, 403)
    assert "error" in answer.json


@pytest.mark.parametrize(
    "host", ["localhost:1", "LOCALHOST", "127.0.0.1", "127.8.8.8:80", "[::1]:80"]
)
def test_the_machines_own_names_are(host: str, client: Client) -> None:
    assert client.get("/v1/models", Host=host).status == 200


def test_where_other_machines_come_in_an_address_is_enough_and_a_name_must_be_known() -> None:
    door = Door(names=frozenset({"my-box"}), any_address=True)

    def comes_in(host: bytes) -> bool:
        try:
            door.check("GET", "/v1/models", [(b"Host", host)])
        except ApiError:
            return False
        return True

    assert all(map(comes_in, (b"192.168.1.5:8080", b"[fe80::1]", b"my-box:80", b"localhost")))
    assert not any(map(comes_in, (b"evil.example", b"my-box.evil.example", b"")))


def test_a_page_may_ask_only_if_it_was_named(locked: Client, client: Client) -> None:
    for origin in ("http://evil.example", "null", "http://localhost:3001", "file://"):
        for one in (locked, client):
            answer = one.get("/health", Origin=origin)
            assert (answer.status, answer.error["code"]) == (403, "origin_not_allowed")
            assert "access-control-allow-origin" not in answer.headers
            assert one.ask("OPTIONS", "/v1/models", Origin=origin).status == 403
    named = "http://localhost:3000"
    asked = locked.ask("OPTIONS", "/v1/chat/completions", Origin=named)
    assert asked.status == 204
    assert "Authorization" in asked.headers["access-control-allow-headers"]
    answer = locked.get("/v1/models", Origin=named, Authorization=f"Bearer {KEY}")
    assert answer.headers["access-control-allow-origin"] == named
    assert locked.get("/v1/models", Origin=named).status == 401
    own = "http://{}:{}".format(*client.address)
    assert client.get("/docs", Origin=own).status == 200


def test_what_a_form_can_send_is_not_taken_for_json(client: Client) -> None:
    body = b'{"messages": [{"role": "user", "content": "x"}]}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert client.post("/v1/chat/completions", body, Content_Type=kind).status == 415


def test_more_than_a_body_may_have_is_not_read(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "MOST_BYTES", 100_000)
    assert client.chat("x" * 200_000).status == 413
    with client.socket() as connection:
        connection.sendall(
            b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 999999999999\r\n\r\n"
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")
    with client.socket() as connection:  # without saying how much will come
        connection.sendall(
            b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
        connection.sendall(chunk * 4)
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")
    assert client.chat().status == 200


def test_who_does_not_come_to_the_point_is_let_go(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "HEADER_SECONDS", 0.2)
    monkeypatch.setattr(application, "BODY_SECONDS", 0.2)
    for begun in (b"", b"GET /health HTTP/1.1\r\nHost: loc"):
        with client.socket() as connection:
            connection.sendall(begun)
            assert connection.recv(4096) == b""
    with client.socket() as connection:  # after a first request that was well
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /he")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        assert read_all(connection) in (b"", b'{"status":"ok"}')
    with client.socket() as connection:
        connection.sendall(
            b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 10\r\n\r\n{"
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 408")


def test_headers_without_end_are_refused(client: Client) -> None:
    with client.socket() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        line = b"X-Filler: " + b"y" * 1000 + b"\r\n"
        until(lambda: not sent(connection, line * 8))


def sent(connection: socket.socket, data: bytes) -> bool:
    try:
        connection.sendall(data)
    except OSError:
        return False
    return True


def read_all(connection: socket.socket) -> bytes:
    data = b""
    while part := connection.recv(4096):
        data += part
    return data


def test_pipelined_requests_are_answered_in_their_order(client: Client) -> None:
    one = b"GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n"
    with client.socket() as connection:
        connection.sendall(
            one % (b"/health", b"")
            + one % (b"/nothing", b"")
            + one % (b"/health", b"Connection: close\r\n")
        )
        data = read_all(connection)
    assert [part[:3] for part in data.split(b"HTTP/1.1 ")[1:]] == [b"200", b"404", b"200"]


def test_what_is_not_there_and_what_is_not_meant_so_are_told_as_everything_else(
    client: Client,
) -> None:
    assert client.get("/v1/nothing").error["code"] == "not_found"
    wrong = client.get("/v1/chat/completions")
    assert wrong.status == 405
    assert wrong.error["message"]


def test_no_text_is_in_the_log_unless_asked(client: Client, world: World) -> None:
    client.chat("my secret")
    client.post("/detokenize?secret", {"tokens": [5]})
    for path in ("/v1/chat/completions", "/detokenize"):
        until(lambda path=path: any(line.startswith(f"POST {path} 200 ") for line in world.said))
    assert "secret" not in "".join(world.said)


def test_keys_are_plain_and_long() -> None:
    assert keys_of(f"\n{KEY}\n  second-key-second-key \n", "f") == (
        digest_of(KEY), digest_of("second-key-second-key"),
    )  # fmt: skip
    for text in ("", "\n", "short", "two words that are long enough", "schlüssel-schlüssel"):
        with pytest.raises(OpenChatError, match="my file") as told:
            keys_of(text, "my file")
        assert not text.strip() or text not in str(told.value)


def test_an_origin_is_a_scheme_and_a_host() -> None:
    assert origin_named("http://LOCALHOST:3000/") == "http://localhost:3000"
    for text in ("*", "localhost:3000", "http://a.example/page", "ftp://a.example", ""):
        with pytest.raises(OpenChatError, match="origin"):
            origin_named(text)


def test_an_answer_in_two_pieces_does_not_wait_for_its_first() -> None:
    with running.listen("127.0.0.1", 0, secured=False).socket as listening:
        with socket.create_connection(listening.getsockname()):
            accepted, _ = listening.accept()
        with accepted:  # what asyncio looks at before it sets TCP_NODELAY
            assert accepted.proto == socket.IPPROTO_TCP


def test_other_machines_come_in_only_with_a_key_and_a_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(OpenChatError, match="API key"):
        running.listen("0.0.0.0", 0, secured=False)
    monkeypatch.setenv(VARIABLE, "1")
    with pytest.raises(OpenChatError, match="needs the network"):
        running.listen("0.0.0.0", 0, secured=True)
    running.listen("127.0.0.1", 0, secured=False).socket.close()
