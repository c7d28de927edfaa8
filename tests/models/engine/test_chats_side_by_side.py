"""The KV states of several chats in one cache, and on disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from openchat_local.models.engine.decoding.llamacpp import Model
from openchat_local.models.engine.protocol import GenerationRequest, TextDelta
from openchat_local.models.gguf import read_gguf
from openchat_local.models.template import Template, choose_template
from support.engines import asking
from support.in_process import InProcess
from support.openchat_gguf import openchat_vocabulary, write_model

SMALL = {"embedding": 64, "heads": 2, "kv_heads": 1, "blocks": 1, "feed_forward": 64}
STORY = " ".join(str(number * 7919 % 1000) for number in range(60))

Tiny = tuple[Model, Template]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    file = read_gguf(write_model(path, openchat_vocabulary(), **SMALL))
    model = Model(file)
    yield model, choose_template(file, model.vocabulary)
    model.close()


@pytest.fixture
def states(tmp_path: Path) -> Path:
    return tmp_path / "states"


@pytest.fixture
def engine(tiny: Tiny, states: Path) -> Iterator[InProcess]:
    engine = InProcess(*tiny, threads=1, states=states)
    yield engine
    engine.close()


def in_chat(key: str, **sampling: object) -> GenerationRequest:
    asked = asking(f"{key} {STORY}", **({"max_tokens": 4} | sampling))
    return replace(asked, chat_key=key, update_interval=0.0)


def on_disk(states: Path) -> set[str]:
    return {path.name.partition(".")[0] for path in states.glob("*.kv")}


def test_chats_stay_in_the_cache_side_by_side(engine: InProcess) -> None:
    for key in ("one", "two", "three"):
        assert engine.reply(in_chat(key)).usage.reused_tokens < 64
    for key in ("one", "two", "three"):
        assert engine.reply(in_chat(key)).usage.evaluated_tokens == 1


def test_a_chat_that_is_left_while_others_write_is_saved_when_they_are_through(
    engine: InProcess, states: Path
) -> None:
    engine.reply(in_chat("one"))
    writing = engine.submit(in_chat("two", max_tokens=60))
    while not any(isinstance(event, TextDelta) for event in writing.events):
        engine.service.step()
    engine.service.leave("one")
    assert on_disk(states) == set()  # nobody waits for the disk
    engine.run()
    assert on_disk(states) == {"one"}


def test_a_chat_that_was_left_is_saved_before_its_cells_are_taken(tiny: Tiny, states: Path) -> None:
    engine = InProcess(*tiny, threads=1, states=states, size=512)
    engine.reply(in_chat("one"))
    writing = engine.submit(in_chat("two", max_tokens=None))
    engine.service.step()
    engine.service.leave("one")
    while not on_disk(states):
        assert not writing.over
        engine.service.step()
    assert on_disk(states) == {"one"}
    engine.close()


@pytest.mark.parametrize("seed", [None, 5])
def test_a_chat_comes_back_from_disk_beside_the_others(
    tiny: Tiny, states: Path, seed: int | None
) -> None:
    """With a seed it is as if it had never been away, to the last bit."""
    first = InProcess(*tiny, threads=1, states=states)
    before = first.reply(in_chat("one", seed=seed))
    first.service.close()
    first.close()
    engine = InProcess(*tiny, threads=1, states=states)
    engine.reply(in_chat("two"))
    after = engine.reply(in_chat("one", seed=seed))
    assert after.usage.restored_tokens > 0
    assert after.usage.evaluated_tokens == 1
    assert after.token_ids == before.token_ids
    engine.close()


def test_what_was_read_beside_others_is_read_again_for_a_seed(engine: InProcess) -> None:
    """Its cells are not where they would be alone: what repeats bit for bit starts anew."""
    engine.replies([in_chat("one"), in_chat("two")])
    engine.service.leave("one")
    first = engine.reply(in_chat("two", seed=3))
    assert first.usage.reused_tokens == 0
    assert engine.reply(in_chat("two", seed=3)).usage.evaluated_tokens == 1


def test_what_a_chat_holds_is_not_lost_to_a_stranger_with_a_seed(engine: InProcess) -> None:
    """Where there is memory the stranger has a context of its own, for as long as it takes."""
    engine.reply(in_chat("one"))
    stranger = asking(STORY, seed=1, max_tokens=3)
    engine.reply(stranger)
    assert engine.opened == 1
    assert len(engine.service.scheduler.runners) == 1
    assert engine.reply(in_chat("one")).usage.evaluated_tokens == 1


def test_a_forgotten_chat_is_neither_in_the_cache_nor_on_disk(
    engine: InProcess, states: Path
) -> None:
    engine.reply(in_chat("one"))
    engine.service.leave("one")
    assert on_disk(states) == {"one"}
    engine.service.forget("one")
    assert on_disk(states) == set()
    assert engine.runner.pool.sequences == []
    engine.service.close()
    assert on_disk(states) == set()
