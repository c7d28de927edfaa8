"""Scores and vectors while replies are written: neither changes the other, and both go on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from openchat_local.models.engine.decoding.embedding import EmbeddingJob
from openchat_local.models.engine.decoding.llamacpp import Adapter, Model
from openchat_local.models.engine.decoding.scoring import ScoringJob, tokens_of
from openchat_local.models.engine.decoding.side_context import SideSettings
from openchat_local.models.engine.decoding.side_job import Beside
from openchat_local.models.engine.protocol import AdapterChoice, Score, ScoreRequest
from openchat_local.models.gguf import read_gguf
from openchat_local.models.template import Template, choose_template
from support.adapters import write_random_adapter
from support.engines import asking
from support.in_process import InProcess
from support.openchat_gguf import openchat_vocabulary, write_model
from support.side_jobs import run_job

QUESTIONS = ["How are you?", "What is the sea?", "And the river, which wanted to be one?"]
SCORED = [
    ScoreRequest(asking(question).conversation, answer)
    for question in QUESTIONS
    for answer in ("Well.", "Well, thanks.", "It is what rivers become, in the end, all of them.")
]
TEXTS = ["A river.", "The sea, in other words. " * 4]


class Engine(InProcess):
    """A service in this process, with jobs beside it. Those that fail leave their error."""

    def __init__(self, model: Model, template: Template, adapters: dict[Path, Adapter]) -> None:
        super().__init__(model, template, threads=1, sequences=4, adapters=adapters)
        settings = SideSettings(size=self.size, threads=1)
        self.beside = Beside(model, settings, self._in_force, self.cancels)
        self.template = template
        self.scores: list[Score] = []
        self.vectors: list[np.ndarray] = []
        self.errors: list[Exception] = []
        self.finished = False

    def scoring(self, requests: list[ScoreRequest]) -> ScoringJob:
        def finish() -> None:
            self.finished = True

        return ScoringJob(
            next(self._ids), self.beside, requests,
            lambda request, condition: tokens_of(request, self.template, condition),
            self.scores.extend, finish, self.errors.append,
        )  # fmt: skip

    def embedding(self) -> EmbeddingJob:
        return EmbeddingJob(
            next(self._ids), self.beside, TEXTS, "mean", None, self.vectors.append,
            self.errors.append,
        )  # fmt: skip

    def add(self, job: ScoringJob | EmbeddingJob) -> None:
        self.cancels.open(job.id)
        self.service.scheduler.add_beside(job)


@pytest.fixture(scope="module")
def parts(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Model, Template, dict[Path, Adapter]]]:
    folder = tmp_path_factory.mktemp("tiny")
    path = write_model(
        folder / "tiny.gguf", openchat_vocabulary(), embedding=64, precision=np.float32
    )
    file = read_gguf(path)
    model = Model(file)
    adapter = write_random_adapter(folder / "adapter.gguf", path, size=0.2)
    yield model, choose_template(file, model.vocabulary), {adapter: Adapter(model, adapter)}
    model.close()


@pytest.fixture
def engine(parts: tuple[Model, Template, dict[Path, Adapter]]) -> Iterator[Engine]:
    engine = Engine(*parts)
    yield engine
    engine.close()


def in_order(scores: list[Score]) -> list[tuple[float, ...]]:
    return [one.log_probabilities for one in sorted(scores, key=lambda score: score.index)]


def test_replies_scores_and_vectors_at_once_are_what_each_is_alone(engine: Engine) -> None:
    requests = [asking(question, max_tokens=24) for question in QUESTIONS]
    requests.append(asking(QUESTIONS[0], max_tokens=24, temperature=1.0, seed=7))
    alone = [engine.reply(request).token_ids for request in requests]
    run_job(engine.scoring(SCORED))
    run_job(engine.embedding())
    scores, vectors = in_order(engine.scores), engine.vectors.pop()
    engine.scores.clear()
    engine.forget_all()
    answers = [engine.submit(request) for request in requests]
    engine.add(engine.scoring(SCORED))
    engine.add(engine.embedding())
    while_writing = 0

    def look() -> None:
        nonlocal while_writing
        if not all(answer.over for answer in answers):
            while_writing = len(engine.scores)

    engine.run(look)
    assert [answer.finished.token_ids for answer in answers] == alone
    assert np.allclose(engine.vectors.pop(), vectors, rtol=0, atol=1e-3)
    for found, expected in zip(in_order(engine.scores), scores, strict=True):
        assert found == pytest.approx(expected, abs=3e-3)
    assert while_writing > 0
    assert not engine.errors
    assert not engine.service.busy


def test_a_reply_never_waits_for_more_than_one_batch_that_its_share_sizes(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds: list[float | None] = []
    job = engine.scoring([ScoreRequest((1, *range(300 + n, 700 + n)), (5,)) for n in range(8)])
    step = job.step

    def heard(allowed: float | None) -> None:
        seconds.append(allowed)
        step(allowed)

    monkeypatch.setattr(job, "step", heard)
    answer = engine.submit(asking(QUESTIONS[0], max_tokens=4))
    engine.add(job)
    steps: list[int] = []
    engine.run(lambda: steps.append(len(seconds)))
    assert answer.finished.usage.generated_tokens == 4
    assert all(after - before <= 1 for before, after in pairwise(steps))
    beside = [each for each in seconds if each is not None]
    assert beside
    assert max(beside) < 0.25 / 2
    assert seconds[-1] is None, "nobody waits any more: full batches"


def test_what_is_cancelled_ends_and_the_others_go_on(engine: Engine) -> None:
    answer = engine.submit(asking(QUESTIONS[0], max_tokens=12))
    one, other = engine.scoring(SCORED * 20), engine.embedding()
    engine.add(one)
    engine.add(other)
    engine.service.step()
    engine.cancels.cancel(one.id)
    engine.run()
    assert not engine.finished
    assert len(engine.scores) < len(SCORED) * 20
    assert answer.finished.usage.generated_tokens == 12
    assert len(engine.vectors) == 1
    assert not engine.errors


def test_an_adapter_for_one_request_is_the_engines_for_no_other(
    engine: Engine, parts: tuple[Model, Template, dict[Path, Adapter]]
) -> None:
    (path,) = parts[2]
    plain = asking(QUESTIONS[0], max_tokens=16)
    expected = engine.reply(plain).token_ids
    engine.forget_all()
    answer = engine.submit(plain)
    with_adapter = [
        ScoreRequest(each.prompt, each.continuation, adapter=AdapterChoice(path, 2.0))
        for each in SCORED
    ]
    engine.add(engine.scoring([*SCORED, *with_adapter]))
    engine.run()
    assert answer.finished.token_ids == expected
    found = in_order(engine.scores)
    assert all(
        max(abs(np.subtract(a, b))) > 0.01
        for a, b in zip(found[: len(SCORED)], found[len(SCORED) :], strict=True)
    )
