"""Many prompts at once give what each would give alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from openchat_local.finetune.evaluation.asking import ask_all
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions
from support.engines import asking, run
from support.openchat_gguf import openchat_vocabulary, write_model
from support.scripted import write_scripted


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    path = tmp_path_factory.mktemp("asking") / "tiny.gguf"
    write_model(path, openchat_vocabulary(), embedding=64, heads=2, kv_heads=1, blocks=2)
    with closing(LocalEngine(EngineOptions(path, context=512, threads=1))) as engine:
        yield engine


def test_each_request_has_its_own_reply(engine: LocalEngine) -> None:
    requests = [asking(word, max_tokens=6) for word in ("one", "two", "three", "four", "five")]
    found = {answer.index: answer for answer in ask_all(engine, requests, at_once=3)}
    assert sorted(found) == [0, 1, 2, 3, 4]
    for index, request in enumerate(requests):
        text, finished = run(engine, request)
        assert found[index].text == text
        assert found[index].tokens == finished.usage.generated_tokens
        assert found[index].reason == finished.reason
        assert found[index].error is None


def test_one_that_does_not_fit_says_so_and_the_others_are_answered(engine: LocalEngine) -> None:
    requests = [asking("one", max_tokens=2), asking("word " * 2000, max_tokens=2)]
    found = {answer.index: answer for answer in ask_all(engine, requests)}
    assert found[0].error is None
    assert "512" in str(found[1].error)
    assert found[1].reason == "overflow"
    assert found[1].text == ""


def test_who_has_heard_enough_cancels_the_rest(engine: LocalEngine) -> None:
    requests = [asking(str(number), max_tokens=None) for number in range(12)]
    answers = ask_all(engine, [asking("short", max_tokens=1), *requests], at_once=2)
    assert next(answers).index == 0
    answers.close()
    text, _ = run(engine, asking("after", max_tokens=1))
    assert isinstance(text, str)


def test_one_that_takes_too_long_is_given_up(engine: LocalEngine) -> None:
    (found,) = ask_all(engine, [asking("on and on", max_tokens=None)], seconds=0.0)
    assert (found.reason, found.error) == ("time", None)


def test_no_requests_have_no_replies(engine: LocalEngine) -> None:
    assert list(ask_all(engine, [])) == []


def test_what_was_thought_is_no_part_of_the_reply(tmp_path: Path) -> None:
    path = write_scripted(tmp_path / "thinker.gguf", ["<think>", "\nHm", "</think>", "Four"])
    with closing(LocalEngine(EngineOptions(path, context=512, threads=1))) as thinker:
        (found,) = ask_all(thinker, [asking("2+2?", max_tokens=None)])
    assert (found.text, found.tokens) == ("Four", 5)
