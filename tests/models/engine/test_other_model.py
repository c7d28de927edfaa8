"""Another model in place of the one that answers: whoever asks meanwhile never gets half of it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions
from openchat_local.models.errors import ModelFileError, ModelLoadError
from support.engines import asking, run
from support.openchat_gguf import openchat_vocabulary, starter_vocabulary, write_model

SMALL = {"embedding": 64, "heads": 2, "kv_heads": 1, "blocks": 1}
HELLO = asking("Hello, how are you?").conversation


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def one(folder: Path) -> Path:
    return write_model(folder / "one.gguf", openchat_vocabulary(), name="one", **SMALL)


@pytest.fixture(scope="module")
def other(folder: Path, starter_path: Path) -> Path:
    vocabulary = starter_vocabulary(starter_path)
    return write_model(folder / "other.gguf", vocabulary, name="other", **SMALL)


@pytest.fixture(scope="module")
def unloadable(folder: Path) -> Path:
    """A file without a fault that llama.cpp knows nothing of."""
    path = folder / "unloadable.gguf"
    return write_model(path, openchat_vocabulary(), architecture="nonsense", **SMALL)


@pytest.fixture
def engine(one: Path) -> Iterator[LocalEngine]:
    engine = LocalEngine(EngineOptions(one, context=512))
    engine.load()
    yield engine
    engine.close()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "this never came true"
        time.sleep(0.01)


def test_a_count_while_models_change_asks_the_new_one(engine: LocalEngine, other: Path) -> None:
    before = engine.count_tokens(HELLO)
    old = engine.pid
    assert old is not None
    os.kill(old, signal.SIGSTOP)  # it takes its time to go
    counts: list[int] = []
    changing = threading.Thread(target=engine.set_model, args=(other,))
    counting = threading.Thread(target=lambda: counts.append(engine.count_tokens(HELLO)))
    changing.start()
    until(lambda: engine.pid != old)
    counting.start()
    until(lambda: counting.is_alive() or counts)
    os.kill(old, signal.SIGCONT)
    changing.join()
    counting.join()
    assert engine.load().name == "other"
    assert counts == [engine.count_tokens(HELLO)]
    assert counts != [before]
    assert engine.loads == 2


def test_a_model_that_cannot_be_loaded_gives_way_to_the_one_before(
    engine: LocalEngine, unloadable: Path, one: Path
) -> None:
    with pytest.raises(ModelLoadError):
        engine.set_model(unloadable)
    assert engine.count_tokens(HELLO) > 0
    assert engine.load().name == "one"
    assert engine.options.model_path == one


def test_after_a_failed_change_an_adapter_is_not_put_on_the_model_that_failed(
    engine: LocalEngine, unloadable: Path, one: Path
) -> None:
    with pytest.raises(ModelLoadError):
        engine.set_model(unloadable)
    assert engine.set_adapter(None).name == "one"
    assert engine.options.model_path == one


@pytest.mark.parametrize("content", [None, b"", b"not a model", b"GGUF\x03\0\0\0"])
def test_what_is_no_model_is_seen_before_the_one_that_works_is_given_up(
    engine: LocalEngine, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "typo.gguf"
    if content is not None:
        path.write_bytes(content)
    pid = engine.pid
    with pytest.raises(ModelFileError, match=r"typo\.gguf"):
        engine.set_model(path)
    assert (engine.pid, engine.loads) == (pid, 1)


def test_a_chat_deleted_while_models_change_leaves_no_state(
    one: Path, other: Path, tmp_path: Path
) -> None:
    states = tmp_path / "states"
    engine = LocalEngine(EngineOptions(one, context=512, states_dir=states))
    run(engine, replace(asking("word " * 200, max_tokens=2), chat_key="chat-1"))
    old = engine.pid
    assert old is not None
    os.kill(old, signal.SIGSTOP)
    changing = threading.Thread(target=engine.set_model, args=(other,))
    changing.start()
    until(lambda: engine.pid != old)
    engine.forget("chat-1")
    os.kill(old, signal.SIGCONT)
    changing.join()
    assert states.exists(), "the model that left kept nothing"
    assert list(states.iterdir()) == []
    engine.close()
