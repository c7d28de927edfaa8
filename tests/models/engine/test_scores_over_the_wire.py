"""Scores and vectors as the app asks for them, from the engine's own process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import (
    AdapterChoice,
    EngineOptions,
    Passage,
    ScoreRequest,
)
from openchat_local.models.errors import AdapterError, ContextOverflow, EngineDied, EngineError
from support.adapters import write_random_adapter
from support.engines import asking, run
from support.openchat_gguf import openchat_vocabulary, write_model

ASKED = Conversation((Message("system", "Be brief. " * 20), Message("user", "How are you?")))
OPTIONS = [ScoreRequest(ASKED, text, top=2) for text in ("Well.", "Well, thanks.", "Żółw 東京")]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    write_model(path, openchat_vocabulary(), embedding=64, precision=np.float32)
    engine = LocalEngine(EngineOptions(path, context=1024, threads=1))
    yield engine
    engine.close()


def test_a_reply_is_as_likely_as_its_tokens_one_after_the_other(engine: LocalEngine) -> None:
    scores = sorted(engine.score(OPTIONS), key=lambda score: score.index)
    assert [score.index for score in scores] == [0, 1, 2]
    prompt = engine.render(ASKED).ids
    whole = scores[1]
    one_by_one = [
        ScoreRequest((*prompt, *whole.ids[:index]), (id,)) for index, id in enumerate(whole.ids)
    ]
    found = sorted(engine.score(one_by_one), key=lambda score: score.index)
    expected = [score.log_probability for score in found]
    assert whole.log_probabilities == pytest.approx(expected, abs=3e-3)
    assert all(len(top) == 2 and top[0][1] >= top[1][1] for top in whole.top)
    evaluated = sum(score.tokens - score.shared_tokens for score in scores)
    assert evaluated < len(prompt) + sum(len(score.ids) for score in scores)


def test_the_greedy_reply_is_greedy_all_the_way(engine: LocalEngine) -> None:
    reply = run(engine, asking("How are you?", max_tokens=12))[1].token_ids
    asked = asking("How are you?").conversation
    (score,) = engine.score([ScoreRequest(asked, reply)])
    assert score.ids == reply
    assert all(score.greedy)


def test_what_does_not_fit_is_refused_and_the_engine_lives_on(engine: LocalEngine) -> None:
    long = ScoreRequest(ASKED, tuple([7] * 1000))
    with pytest.raises(ContextOverflow, match=r"number 2 of 2.* holds 1,024"):
        list(engine.score([OPTIONS[0], long]))
    with pytest.raises(EngineError, match="number 1 of 1 is empty"):
        list(engine.score([ScoreRequest((), (7,))]))
    assert list(engine.score([])) == []
    assert len(list(engine.score(OPTIONS))) == 3


def test_an_adapter_that_is_gone_costs_a_sentence(engine: LocalEngine, tmp_path: Path) -> None:
    gone = AdapterChoice(tmp_path / "gone.gguf")
    with pytest.raises(AdapterError, match=r"gone\.gguf cannot be read"):
        list(engine.score([OPTIONS[0], ScoreRequest((1, 2), (3,), adapter=gone)]))
    with pytest.raises(AdapterError, match=r"gone\.gguf cannot be read"):
        engine.embed(["A river."], adapter=gone)


def test_scores_and_vectors_under_an_adapter(engine: LocalEngine, tmp_path: Path) -> None:
    path = write_random_adapter(tmp_path / "a.gguf", engine.options.model_path, size=0.2)
    choice = AdapterChoice(path, 2.0)
    plain = ScoreRequest((1, 500, 501), (502, 503))
    scores = sorted(
        engine.score([plain, replace(plain, adapter=choice), plain]), key=lambda one: one.index
    )
    assert scores[0].log_probabilities == scores[2].log_probabilities
    assert scores[0].log_probabilities != scores[1].log_probabilities
    assert scores[1].shared_tokens == 0
    assert not np.allclose(engine.embed(["Hi"]), engine.embed(["Hi"], adapter=choice), atol=0.01)


def test_one_who_has_heard_enough_gets_no_more_and_others_their_turn(engine: LocalEngine) -> None:
    prompts = [ScoreRequest((1, *range(300 + n, 900 + n)), (5,)) for n in range(200)]
    scores = engine.score(prompts)
    first = next(scores)
    scores.close()
    assert first.tokens == 601
    assert run(engine, asking("Are you there?", max_tokens=2))[1].usage.generated_tokens <= 2


def test_texts_become_vectors(engine: LocalEngine) -> None:
    texts = ["A river.", "A river.", "The sea, in other words."]
    means = engine.embed(texts)
    assert means.shape == (3, 64)
    assert means.dtype == np.float32
    assert np.allclose(means[0], means[1], atol=1e-3)
    assert not np.allclose(means[0], means[2], atol=0.1)
    assert not np.allclose(engine.embed(texts, "last"), means, atol=0.1)
    passages = [Passage((1, 500, 501), start=1), Passage((1, 500, 501), start=2)]
    assert not np.allclose(*engine.embed(passages), atol=0.1)
    with pytest.raises(ContextOverflow, match=r"Text 1 of 1 is .* holds 1,024"):
        engine.embed(["word " * 2000])


def test_the_childs_death_costs_a_sentence_and_the_next_call_a_new_one(
    engine: LocalEngine,
) -> None:
    prompts = [ScoreRequest((1, *range(300 + n, 900 + n)), (5,)) for n in range(200)]
    scores = engine.score(prompts)
    next(scores)
    pid = engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(EngineDied, match="ended in mid-work"):
        list(scores)
    assert len(list(engine.score(OPTIONS))) == 3


def test_many_calls_leave_nothing_behind(engine: LocalEngine) -> None:
    """Each has a context of its own. Some are given up."""

    def call(number: int) -> None:
        scores = engine.score([replace(OPTIONS[number % 3], continuation=f"Number {number}.")] * 2)
        next(scores)
        if number % 3:
            list(scores)
        scores.close()
        engine.embed([f"Number {number}."])

    def resident(numbers: Iterable[int]) -> list[int]:
        assert engine.pid is not None
        child = psutil.Process(engine.pid)
        found = []
        for number in numbers:
            call(number)
            found.append(child.memory_info().rss)
        return found

    # What the allocator keeps for the next call comes and goes; what is lost stays.
    before, after = max(resident(range(20))), min(resident(range(20, 120))[-20:])
    assert after - before < 8 * 2**20


def test_an_engine_that_is_closed_does_not_score_to_the_end(engine: LocalEngine) -> None:
    scores = engine.score([ScoreRequest((1, *range(300 + n, 900 + n)), (5,)) for n in range(400)])
    next(scores)
    assert engine.pid is not None
    child = psutil.Process(engine.pid)
    engine.close()
    child.wait(30)
    with pytest.raises(EngineDied):
        list(scores)
    assert len(list(engine.score(OPTIONS))) == 3, "it can start again"
