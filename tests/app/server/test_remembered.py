"""Conversations that are gone on with cost no second reading, also after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from openchat_local.app.server import remembered
from openchat_local.app.server.starting import Wishes, serving_of
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions, Sampling
from openchat_local.models.library.adapters import AdapterLibrary
from support.serving import Client, running, until

from .conftest import World

LONG = "Once there was a small river that wanted to be the sea. " * 12
RULES = {"role": "system", "content": LONG}


@contextmanager
def served(world: World, states: Path, *, keeps: bool = True) -> Iterator[Client]:
    """A server of its own, which has written what it wanted to once it is through."""
    options = EngineOptions(world.base, context=2048, threads=1, states_dir=states)
    engine = LocalEngine(options)
    wishes = Wishes(Sampling(temperature=0, max_tokens=4), states=states if keeps else None)
    serving = serving_of(engine, AdapterLibrary(world.folder / "none"), wishes)
    pid = engine.pid
    try:
        with running(serving) as client:
            yield client
    finally:
        engine.close()
        serving.bridge.close()
        until(lambda: pid is None or not psutil.pid_exists(pid))


def said(client: Client, *turns: Any, **more: Any) -> tuple[str, int]:
    """What is answered, and how many tokens of the prompt were not read again."""
    body = client.post("/v1/chat/completions", {"messages": turns, **more}).json
    cached: int = body["usage"]["prompt_tokens_details"]["cached_tokens"]
    return body["choices"][0]["message"]["content"], cached


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def gone_on(client: Client, first: str, **more: Any) -> list[Any]:
    """Two turns of a conversation; what the third begins with."""
    turns: list[Any] = [user(first)]
    for text in ("Go on!", "And then?"):
        reply, _ = said(client, *turns, **more)
        turns += [{"role": "assistant", "content": reply}, user(text)]
    return turns


@pytest.fixture
def states(tmp_path: Path) -> Path:
    return tmp_path / "states"


def test_a_restarted_server_goes_on_where_the_one_before_ended(world: World, states: Path) -> None:
    with served(world, states) as client:
        turns = gone_on(client, f"Tell me: {LONG}")
        before, warm = said(client, *turns)
    assert warm > 150
    assert len([*states.glob("served-*.kv")]) == 1
    with served(world, states) as client:
        again, cached = said(client, *turns)
        assert again == before
        assert cached >= warm
        # The other one, which is new, has nothing of it.
        assert said(client, user(f"Say: {LONG}"))[1] < 30


def test_one_that_others_have_followed_is_written_while_the_server_runs(
    world: World, states: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "_IDLE", 0.0)
    monkeypatch.setattr(remembered, "_AT_HAND", 1)
    with served(world, states) as client:
        gone_on(client, f"A: {LONG}")
        assert not states.exists()
        gone_on(client, f"B: {LONG}")
        until(lambda: [*states.glob("served-*.json")])


def test_what_many_conversations_begin_with_outlives_the_server(world: World, states: Path) -> None:
    with served(world, states) as client:
        for name in ("Ann", "Bob"):
            said(client, RULES, user(f"I am {name}."))
    with served(world, states) as client:
        assert said(client, RULES, user("I am Eve."))[1] > 100


@pytest.mark.parametrize("keeps", [True, False], ids=["once or unwanted", "off"])
def test_nothing_is_left_on_disk_of(keeps: bool, world: World, states: Path) -> None:
    with served(world, states, keeps=keeps) as client:
        if keeps:
            for number in range(3):
                said(client, user(f"{number}. {LONG}"))
        gone_on(client, LONG, **({"cache_prompt": False} if keeps else {}))
    assert not states.exists() or [*states.iterdir()] == []
