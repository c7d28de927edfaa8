"""Many at once: who waits, who is sent away, who leaves, and an engine that dies."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from openchat_local.models.engine.local import LocalEngine
from support.serving import Client, running, until

from .conftest import World

LONG = {"max_tokens": -1, "stream": True}
GOES_ON = {"messages": [{"role": "user", "content": "Go on!"}], "temperature": 0} | LONG


def open_stream(client: Client, **more: Any) -> Any:
    """A long reply, of which the first bytes have come."""
    body = GOES_ON | more
    connection = client.socket()
    connection.sendall(posted(json.dumps(body).encode()))
    assert connection.recv(15) == b"HTTP/1.1 200 OK"
    return connection


def posted(body: bytes) -> bytes:
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )


def gauge(client: Client, name: str) -> float:
    lines = client.get("/metrics").data.decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def test_everybody_gets_what_they_would_get_alone(client: Client) -> None:
    models = ["openchat-3.5-tiny", "openchat-3.5-tiny:mine", "openchat-3.5-tiny:yours"]

    def ask(number: int) -> str:
        body = client.chat(f"Number {number % 4}", model=models[number % 3]).json
        return str(body["choices"][0]["message"]["content"])

    alone = [ask(number) for number in range(12)]
    with ThreadPoolExecutor(24) as pool:
        together = list(pool.map(ask, [*range(12)] * 2))
    assert together == alone * 2


def test_a_crowd_that_comes_and_goes_gets_its_own_answers_and_leaves_nothing(
    world: World,
) -> None:
    """32 at once, three models; every third leaves before its answer is whole."""
    serving = world.another(waiting=500)  # who has left may not be noticed yet
    with running(serving) as client:
        crowd(client)
        until(lambda: serving.places.taken == 0)
        until(lambda: not world.engine._streams.current)
        assert gauge(client, "openchat_replies_running") == 0


def crowd(client: Client) -> None:
    models = ["openchat-3.5-tiny", "openchat-3.5-tiny:mine", "openchat-3.5-tiny:yours"]
    asked = [(f"Number {number}", model) for number in range(3) for model in models]

    def ask(text: str, model: str, *, stream: bool = False) -> str:
        answer = client.chat(text, model=model, stream=stream, max_tokens=6)
        assert answer.status == 200, answer.data
        if not stream:
            return str(answer.json["choices"][0]["message"]["content"])
        choices = [event["choices"][0] for event in answer.events]
        return "".join(choice["delta"].get("content", "") for choice in choices)

    alone = {one: ask(*one) for one in asked}
    for text, _ in asked:
        assert len({alone[text, model] for model in models}) == len(models)
    wrong: list[object] = []

    def come_and_go(number: int) -> None:
        chance = random.Random(number)
        for _ in range(5):
            text, model = chance.choice(asked)
            if chance.random() < 1 / 3:
                with client.socket() as connection:
                    turns = [{"role": "user", "content": text}]
                    body = {"messages": turns, "model": model, "stream": chance.random() < 0.5}
                    connection.sendall(posted(json.dumps(body).encode()))
                    connection.recv(chance.choice([1, 400])) if body["stream"] else None
            elif (said := ask(text, model, stream=chance.random() < 0.5)) != alone[text, model]:
                wrong.append((text, model, said))

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(come_and_go, range(32)))
    assert wrong == []


def test_where_all_places_are_taken_one_is_told_when_to_come_back(world: World) -> None:
    serving = world.another(running=1, waiting=1)
    with running(serving) as client:
        assert client.chat(n=3).error["param"] == "n"
        with serving.places.reserved(2):
            answer = client.chat()
            assert answer.status == 429
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.error["type"] == "rate_limit_error"
            assert client.chat(stream=True).status == 429
            assert client.get("/v1/models").status == 200
        assert client.chat(n=2).status == 200
        assert serving.places.taken == 0


def test_a_client_that_leaves_frees_its_place_and_the_engine(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled: list[object] = []
    cancel = LocalEngine.cancel

    def noted(self: LocalEngine, request: Any = None) -> None:
        cancelled.append(request)
        cancel(self, request)

    monkeypatch.setattr(LocalEngine, "cancel", noted)
    serving = world.another(running=1, waiting=4)
    with running(serving) as client:
        threads = threading.active_count()
        with open_stream(client):
            waiting = client.socket()  # another, that waits behind it and leaves first
            waiting.sendall(posted(b'{"messages": [{"role": "user", "content": "x"}]}'))
            until(lambda: serving.places.waiting == 1)
            waiting.close()
            until(lambda: serving.places.waiting == 0)
            assert not cancelled  # it had not begun
        until(lambda: serving.places.taken == 0)
        assert len(cancelled) == 1
        body = json.dumps(GOES_ON | {"stream": False}).encode()
        with client.socket() as whole:  # which is told nothing until all is there
            whole.sendall(posted(body))
            until(lambda: world.engine._streams.current)
        until(lambda: serving.places.taken == 0)
        assert len(cancelled) == 2
        assert gauge(client, "openchat_replies_running") == 0
        until(lambda: not world.engine._streams.current)
        assert client.chat().status == 200
        until(lambda: threading.active_count() <= threads + 2)


def test_a_reply_that_is_cancelled_under_a_client_is_no_whole_one(
    client: Client, world: World
) -> None:
    with open_stream(client) as connection:
        world.engine.cancel()
        data = b""
        while b'data: {"error"' not in data:
            part = connection.recv(65536)
            assert part, data[-500:]
            data += part
    assert b'finish_reason":"length' not in data
    assert b"[DONE]" not in data


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_an_engine_that_dies_ends_a_stream_with_an_error_and_the_next_request_is_well(
    client: Client, world: World
) -> None:
    with open_stream(client) as connection:
        pid = world.engine.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        data = b""
        while b'data: {"error"' not in data:
            part = connection.recv(65536)
            assert part, data[-500:]
            data += part
    event = data[data.index(b'data: {"error"') :].split(b"\n\n")[0].removeprefix(b"data: ")
    error = json.loads(event)["error"]
    assert (error["type"], error["code"]) == ("server_error", "engine_died")
    assert b"[DONE]" not in data
    assert client.chat().status == 200
    assert world.engine.pid not in (None, pid)
