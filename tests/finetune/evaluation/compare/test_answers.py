"""Two contenders answer, turn after turn, and no answer is written twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from openchat_local.finetune.evaluation.compare.answers import Answers, answer_prompts, turns_of
from openchat_local.finetune.evaluation.compare.prompt_rows import Prompt
from openchat_local.finetune.evaluation.contender import Contender, contender
from openchat_local.finetune.evaluation.rows import RowFile
from openchat_local.models.conversation import Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import Engine, EngineOptions, Sampling
from support.engines import asking, run
from support.openchat_gguf import openchat_vocabulary, write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("answers") / "tiny.gguf"
    sizes = {"embedding": 64, "heads": 2, "kv_heads": 1, "blocks": 2}
    return write_model(path, openchat_vocabulary(), **sizes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def engine(model: Path) -> Iterator[LocalEngine]:
    with closing(LocalEngine(EngineOptions(model, context=512, threads=1))) as engine:
        yield engine


def prompt(line: int, *turns: str) -> Prompt:
    return Prompt(line, "", "", (Message("user", turns[0]),), turns[1:])


PROMPTS = [prompt(1, "one", "and two"), prompt(2, "three"), prompt(3, "four", "five", "six")]


def answered(
    engine: Engine | None,
    path: Path,
    model: Path,
    prompts: list[Prompt] = PROMPTS,
    *,
    most: int = 5,
) -> tuple[Answers, list[int]]:
    """The answers by `engine`, None where nobody may be asked; and how many were counted."""
    counts: list[int] = []

    def asked() -> Engine:
        assert engine is not None
        return engine

    by = contender("it", model, sampling=Sampling(temperature=0.0, max_tokens=most))
    with RowFile(path) as kept:
        return answer_prompts(asked, by, prompts, kept, on_answers=counts.append), counts


def test_every_turn_follows_the_contenders_own(
    engine: LocalEngine, model: Path, tmp_path: Path
) -> None:
    found, counts = answered(engine, tmp_path / "rows", model)
    assert found.failures == {}
    assert [len(found.dialogues[one.digest]) for one in PROMPTS] == [2, 1, 3]
    first, second, third = found.dialogues[PROMPTS[2].digest]
    text, finished = run(
        engine, asking("four", first.text, "five", second.text, "six", max_tokens=5)
    )
    assert (third.text, third.tokens) == (text, finished.usage.generated_tokens)
    assert third.cut == (finished.reason == "length")
    assert counts[-1] == turns_of(PROMPTS) == 6
    assert counts == sorted(counts)


def test_what_was_answered_is_never_asked_again(
    engine: LocalEngine, model: Path, tmp_path: Path
) -> None:
    before, _ = answered(engine, tmp_path / "rows", model)
    again, counts = answered(None, tmp_path / "rows", model)
    assert again == before
    assert counts[-1] == 6


def test_after_an_end_in_the_middle_the_rest_is_asked(
    engine: LocalEngine, model: Path, tmp_path: Path
) -> None:
    whole, _ = answered(engine, tmp_path / "whole", model)
    lines = (tmp_path / "whole").read_bytes().splitlines(keepends=True)
    for kept in range(len(lines)):
        (tmp_path / "rows").write_bytes(b"".join(lines[:kept]) + lines[kept][:-5])
        assert answered(engine, tmp_path / "rows", model)[0] == whole


def test_a_prompt_that_cannot_be_answered_is_told_and_the_others_are_answered(
    engine: LocalEngine, model: Path, tmp_path: Path
) -> None:
    prompts = [prompt(1, "word " * 2000, "and?"), prompt(2, "one")]
    found, counts = answered(engine, tmp_path / "rows", model, prompts)
    assert [*found.dialogues] == [prompts[1].digest]
    assert "512" in found.failures[prompts[0].digest]
    assert counts[-1] == 2


def test_who_draws_differently_answers_differently(model: Path) -> None:
    def identity(**sampling: float) -> str:
        by: Contender = contender("it", model, sampling=Sampling(**sampling))  # type: ignore[arg-type]
        return by.identity

    assert len({identity(temperature=0.5), identity(temperature=0.7), identity(seed=2)}) == 3
