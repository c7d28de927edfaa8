"""Reopening a chat after a restart costs a read, and deleting it leaves nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions, Finished, GenerationRequest, KVType
from support.engines import asking, run, said
from support.openchat_gguf import openchat_vocabulary, write_model

STORY = "Once upon a time there was a small river that wanted to be the sea. " * 20


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In OpenChat's shape, narrow."""
    return write_model(
        tmp_path_factory.mktemp("tiny") / "tiny.gguf", openchat_vocabulary(), context=2048,
        embedding=128, heads=2, kv_heads=1, blocks=2, feed_forward=128,
    )  # fmt: skip


@pytest.fixture
def states(tmp_path: Path) -> Path:
    return tmp_path / "states"


@contextmanager
def engine_with(model: Path, states: Path, kv_type: KVType = "f16") -> Iterator[LocalEngine]:
    options = EngineOptions(model, context=2048, threads=1, states_dir=states, kv_type=kv_type)
    engine = LocalEngine(options)
    try:
        yield engine
    finally:
        pid = engine.pid
        engine.close()
        if pid is not None:
            wait_for_end(pid)


def wait_for_end(pid: int) -> None:
    """Until the child has written what it wanted to; `close` itself never waits."""
    import psutil

    deadline = time.monotonic() + 30
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not psutil.pid_exists(pid)


def in_chat(request: GenerationRequest, key: str = "chat-1") -> GenerationRequest:
    return replace(request, chat_key=key)


def first_turn(engine: LocalEngine, key: str = "chat-1") -> tuple[str, Finished]:
    request = asking(STORY, temperature=1.5, seed=5, max_tokens=60)
    return run(engine, in_chat(request, key))


def test_a_state_belongs_to_the_type_of_the_cache(model: Path, states: Path) -> None:
    with engine_with(model, states, kv_type="q8_0") as engine:
        reply, _ = first_turn(engine)
        next_turn = in_chat(asking(STORY, reply, "And then?"))
    with engine_with(model, states) as engine:
        _, other = run(engine, next_turn)
    assert other.usage.restored_tokens == 0
    with engine_with(model, states, kv_type="q8_0") as engine:
        _, same = run(engine, next_turn)
    assert same.usage.restored_tokens > 300


def test_a_restart_evaluates_only_what_is_new_and_answers_the_same(
    model: Path, states: Path
) -> None:
    with engine_with(model, states) as engine:
        reply, before = first_turn(engine)
        next_turn = in_chat(asking(STORY, said(reply, before), "And then?"))
        expected, _ = run(engine, next_turn)
    with engine_with(model, states) as engine:
        answer, after = run(engine, next_turn)
    held = before.usage.prompt_tokens + len(before.token_ids) - 1
    assert after.usage.restored_tokens >= held
    assert after.usage.evaluated_tokens < 30
    assert answer == expected


def test_leaving_a_chat_writes_its_state(model: Path, states: Path) -> None:
    with engine_with(model, states) as engine:
        first_turn(engine)
        assert not states.exists()
        engine.leave("chat-1")
        run(engine, in_chat(asking("Hi", max_tokens=2), "chat-2"))  # done after the save
        assert [path.suffix for path in sorted(states.iterdir())] == [".json", ".kv"]


def test_a_damaged_state_is_ignored(model: Path, states: Path) -> None:
    with engine_with(model, states) as engine:
        first_turn(engine)
    (state,) = states.glob("*.kv")
    data = bytearray(state.read_bytes())
    data[len(data) // 2] ^= 0xFF
    state.write_bytes(data)
    with engine_with(model, states) as engine:
        _, after = run(engine, in_chat(asking(STORY, "Well.", "And then?")))
        assert after.usage.restored_tokens == after.usage.reused_tokens == 0


def test_another_chats_state_is_not_used(model: Path, states: Path) -> None:
    with engine_with(model, states) as engine:
        first_turn(engine)
    with engine_with(model, states) as engine:
        _, after = first_turn(engine, "chat-2")
        assert after.usage.restored_tokens == 0


def test_without_a_key_nothing_is_written(model: Path, states: Path) -> None:
    with engine_with(model, states) as engine:
        run(engine, asking(STORY))
    assert not states.exists()


def test_a_forgotten_chat_leaves_no_state_even_at_the_end(model: Path, states: Path) -> None:
    with engine_with(model, states) as engine:
        first_turn(engine)
        engine.leave("chat-1")
        run(engine, asking("Hi", max_tokens=2))
        assert list(states.iterdir())
        engine.forget("chat-1")
        assert list(states.iterdir()) == []
    assert list(states.iterdir()) == []


def test_closing_returns_before_the_state_is_written(starter_path: Path, states: Path) -> None:
    engine = LocalEngine(EngineOptions(starter_path, context=2048, states_dir=states))
    first_turn(engine)
    pid = engine.pid
    assert pid is not None
    engine.close()
    written_at_once = list(states.glob("*.kv")) if states.exists() else []
    wait_for_end(pid)
    assert written_at_once == []
    assert len(list(states.glob("*.kv"))) == 1
