"""However little room there is, everybody gets to the end."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openchat_local.models.engine.decoding.llamacpp import Model
from openchat_local.models.engine.decoding.sequences import SequencePool
from openchat_local.models.engine.protocol import GenerationRequest
from openchat_local.models.errors import DoesNotFit
from openchat_local.models.gguf import read_gguf
from openchat_local.models.template import Template, choose_template
from support.engines import asking
from support.in_process import InProcess
from support.openchat_gguf import byte_vocabulary, write_model

SHAPE = {"embedding": 32, "heads": 2, "kv_heads": 1, "blocks": 1, "feed_forward": 32}
TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}"
# In the first three those who made room once took it back at once, and nobody got on.
CASES = (756, 831, 886, *range(40))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Model, Template]]:
    path = tmp_path_factory.mktemp("bytes") / "bytes.gguf"
    file = read_gguf(write_model(path, byte_vocabulary(), chat_template=TEMPLATE, **SHAPE))
    model = Model(file)
    yield model, choose_template(file, model.vocabulary)
    model.close()


def anything(dice: random.Random, size: int) -> GenerationRequest:
    """Short or long, for one token or without end, bound by a schema, with a seed or not."""
    wanted: dict[str, Any] = {"max_tokens": dice.choice([1, 1, 2, 5, 30, 60, None])}
    if dice.random() < 0.3:
        wanted["json_schema"] = {"const": "x" * dice.randrange(1, 25)}
    if dice.random() < 0.1:
        wanted["seed"] = 1
    asked = asking(f"q{dice.randrange(3)} " + "y" * dice.randrange(size - 40), **wanted)
    return replace(asked, speculate=dice.random() < 0.5)


@pytest.mark.parametrize("case", CASES)
def test_everybody_gets_to_the_end(tiny: tuple[Model, Template], case: int) -> None:
    dice = random.Random(case)
    size = dice.randrange(60, 200)
    engine = InProcess(*tiny, size=size, threads=1, second_runner=dice.random() < 0.5)
    answers = []
    for _ in range(dice.randrange(2, 12)):
        request = anything(dice, size)
        try:
            answers.append(engine.submit(request))
        except DoesNotFit:
            continue
        for _ in range(dice.randrange(6)):
            engine.service.step()
    for _ in range(6000):
        engine.service.step()
    assert not engine.service.busy
    for answer in answers:
        assert answer.finished.reason in ("stop", "length")
    assert engine.runner.pool.free == size - engine.runner.pool.used
    engine.close()


@pytest.mark.parametrize("case", [3, 50, *range(200, 212)])
def test_the_books_hold_whatever_comes(
    tiny: tuple[Model, Template], tmp_path: Path, case: int
) -> None:
    """Chats that are left and forgotten, cancels, and few sequences: no cell is lost or promised
    twice, and llama.cpp always finds those that were."""
    dice = random.Random(case)
    size = dice.randrange(150, 700)
    engine = InProcess(
        *tiny,
        size=size,
        threads=1,
        second_runner=dice.random() < 0.6,
        states=tmp_path / "states",
        sequences=dice.choice([1, 2, 4, 8]),
    )
    answers = []
    for _ in range(dice.randrange(5, 25)):
        request = replace(anything(dice, size), chat_key=dice.choice([None, "a", "b", "c"]))
        with suppress(DoesNotFit):
            answers.append(engine.submit(request))
        for _ in range(dice.randrange(12)):
            engine.service.step()
        match dice.randrange(8):
            case 0 if answers:
                engine.cancels.cancel(dice.choice(answers).id)
            case 1:
                engine.service.leave(dice.choice("abc"))
            case 2:
                engine.service.forget(dice.choice("abc"))
        for runner in engine.service.scheduler.runners:
            check(runner.pool)
    engine.run()
    assert [answer.error for answer in answers if answer.error or not answer.over] == []
    check(engine.runner.pool)
    engine.close()


def check(pool: SequencePool) -> None:
    numbers = [sequence.id for sequence in pool.sequences]
    assert len({*numbers}) == len(numbers)
    assert pool.used == pool.cells.held(numbers)
    assert pool.free == pool.size - pool.used - sum(one.reserved for one in pool.sequences) >= 0
