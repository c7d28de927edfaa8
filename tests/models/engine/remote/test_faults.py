"""What goes wrong on the way to a remote engine, each in one sentence; and being stopped."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import closing

import pytest

from openchat_local.models.engine.protocol import (
    Finished,
    GenerationEvent,
    TextDelta,
)
from openchat_local.models.errors import (
    ConnectionLost,
    EngineError,
)
from support.engines import asking, run
from support.openai_like import Bare, Exchange, error
from support.other_program import remote_engine, said_by
from support.serving import PATIENCE

FAULTS: dict[str, tuple[Callable[[Exchange], None], tuple[str, ...]]] = {
    "401": (error(401), ("wants an API key", "--api-key-env")),
    "403": (error(403), ("wants an API key",)),
    "404": (error(404), ("nothing at", "so it is")),
    "429": (error(429, Retry_After="7"), ("try again in 7 s", "so it is")),
    "500": (error(500), ("fault of its own (HTTP 500: so it is)",)),
    "400": (error(400), ("does not take the request (HTTP 400): so it is",)),
    "moved": (error(308, Location="https://x.org/v1"), ("points to https://x.org/v1",)),
    "page": (lambda e: e.whole(b"<html>Hello", "text/html"), ("does not answer as", "/v1")),
    "no-json": (lambda e: e.whole(b"{", "application/json"), ("does not answer as", "/v1")),
    "other": (lambda e: e.json({"ok": True}), ("does not answer as",)),
    "said": (lambda e: e.json({"error": {"message": "no more"}}), ("gave up (no more)",)),
    "422": (
        lambda e: e.json({"detail": [{"loc": ["body", "n"], "msg": "is odd"}]}, 422),
        ("(HTTP 422): body.n: is odd",),
    ),
    "gone": (lambda e: e.break_off(), ("closed the connection", "try again")),
    "empty": (lambda e: e.says_nothing(), ("ended the connection",)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_one_sentence_with_what_to_do(bare: Bare, fault: str) -> None:
    answer, parts = FAULTS[fault]
    bare.replies(answer)
    with pytest.raises(EngineError) as told:
        said_by(bare)
    sentence = str(told.value)
    assert [part for part in parts if part not in sentence] == []
    assert "\n" not in sentence
    assert len(bare.chats) == 1  # what was sent is not sent again


@pytest.mark.parametrize("fault", ["401", "page", "500", "moved"])
def test_faults_are_told_when_it_is_looked_for_too(bare: Bare, fault: str) -> None:
    answer, parts = FAULTS[fault]
    bare.answers["/v1/models"] = answer
    with pytest.raises(EngineError) as told:
        remote_engine(bare.url, "gpt").load()
    assert parts[0] in str(told.value)


def test_a_host_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: object, **__: object) -> None:  # as where there is no network to ask
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(EngineError, match=r"no host nowhere\.invalid"):
        remote_engine("https://nowhere.invalid/v1").load()


def test_a_port_where_nothing_answers_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens, and nobody else can
        port = taken.getsockname()[1]
        with pytest.raises(EngineError, match=f"Nothing answers at 127.0.0.1:{port}"):
            remote_engine(f"127.0.0.1:{port}").load()


def test_a_server_without_tls_is_told(bare: Bare) -> None:
    with pytest.raises(EngineError, match="begins with http://"):
        remote_engine(bare.url.replace("http://", "https://")).load()


def test_a_server_that_says_nothing_is_given_up(bare: Bare) -> None:
    bare.replies(lambda exchange: exchange.until_gone())
    with (
        closing(remote_engine(bare.url, silent_seconds=0.05)) as engine,
        pytest.raises(EngineError, match=r"said nothing for 0\.05 s"),
    ):
        run(engine, asking("Hello?"))


def test_who_is_asked_to_wait_waits_where_there_is_patience(bare: Bare) -> None:
    def answer(exchange: Exchange) -> None:
        if len(bare.chats) < 3:
            error(429, Retry_After="0.01")(exchange)
        else:
            exchange.says("At last.")

    bare.replies(answer)
    with closing(remote_engine(bare.url, patience=5.0)) as engine:
        assert run(engine, asking("Hello?"))[0] == "At last."


@pytest.mark.parametrize("how", ["break_off", "event", "no_end"])
def test_of_a_reply_that_is_lost_what_came_is_kept(bare: Bare, how: str) -> None:
    def answer(exchange: Exchange) -> None:
        exchange.begin_stream()
        exchange.delta(content="Once upon")
        if how == "break_off":
            exchange.break_off()
        elif how == "event":
            exchange.event({"error": {"message": "the engine died"}})
        exchange.end_stream()

    bare.replies(answer)
    came: list[GenerationEvent] = []
    with closing(remote_engine(bare.url)) as engine:
        with pytest.raises(ConnectionLost, match="what came is kept"):
            came.extend(engine.generate(asking("Hello?")))
        assert "".join(event.text for event in came if isinstance(event, TextDelta)) == "Once upon"
        bare.replies(lambda exchange: exchange.says("Again."))
        assert run(engine, asking("Hello?"))[0] == "Again."


@pytest.mark.parametrize("begun", [True, False])
def test_cancelling_closes_the_connection_at_once(bare: Bare, begun: bool) -> None:
    waiting = threading.Event()

    def answer(exchange: Exchange) -> None:
        if begun:
            exchange.begin_stream()
            exchange.delta(content="Once")
        waiting.set()
        exchange.until_gone()

    bare.replies(answer)
    with closing(remote_engine(bare.url)) as engine:
        request, events = asking("Hello?"), []

        def cancel() -> None:
            waiting.wait(PATIENCE)
            engine.cancel(request)

        helper = threading.Thread(target=cancel)
        helper.start()
        events = list(engine.generate(request))
        helper.join()
        assert bare.gone.wait(PATIENCE)
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.reason == "cancelled"


def test_closing_the_generator_closes_the_connection(bare: Bare) -> None:
    def answer(exchange: Exchange) -> None:
        exchange.begin_stream()
        exchange.delta(content="Once")
        exchange.until_gone()

    bare.replies(answer)
    with closing(remote_engine(bare.url)) as engine:
        with closing(engine.generate(asking("Hello?"))) as events:
            assert isinstance(next(events), TextDelta)
        assert bare.gone.wait(PATIENCE)
