"""A small float32 base with OpenChat's vocabulary, held-out answers, an adapter, an engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openchat_local.finetune.adapter.lora import LoraConfig
from openchat_local.finetune.backends.choose import choose_backend
from openchat_local.finetune.backends.trainer import OptimizerConfig, Trainer
from openchat_local.finetune.data.options import DataOptions
from openchat_local.finetune.evaluation.losses.answers import Answers, read_answers
from openchat_local.finetune.evaluation.losses.by_engine import EngineLosses
from openchat_local.finetune.evaluation.losses.by_trainer import TrainerLosses
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions, Score, ScoreRequest
from openchat_local.models.gguf import GGUFFile, read_gguf
from openchat_local.models.library.adapter_file import AdapterCard, TrainedClass
from openchat_local.models.template import Template, choose_template
from openchat_local.models.template.vocabulary import Vocabulary
from support.adapters import write_random_adapter
from support.openchat_gguf import openchat_vocabulary, write_model

ANSWERS = {"gpt4": ["Blue.", "It is green.", "Red, mostly."], "gpt35": ["As an AI, I see grey."]}
CLASSES = (TrainedClass("gpt4", "GPT4 Correct", 1.0), TrainedClass("gpt35", "GPT3", 0.1))


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> GGUFFile:
    path = tmp_path_factory.mktemp("held-out") / "tiny-openchat-3.5.gguf"
    return read_gguf(
        write_model(
            path, openchat_vocabulary(), name="tiny openchat-3.5", context=512, blocks=2,
            embedding=64, heads=2, kv_heads=1, feed_forward=128, precision=np.float32,
        )
    )  # fmt: skip


@pytest.fixture(scope="session")
def template(base: GGUFFile) -> Template:
    return choose_template(base, Vocabulary.open(base.path), None)


@pytest.fixture(scope="session")
def adapter(base: GGUFFile) -> Path:
    """A random one, large enough for every answer to feel it."""
    card = AdapterCard(CLASSES, "openchat-3.5", base.name, base.fingerprint, None)
    return write_random_adapter(base.path.with_name("adapter.gguf"), base.path, size=0.1, card=card)


@pytest.fixture(scope="session")
def make(base: GGUFFile) -> Callable[[LoraConfig], Trainer]:
    """A trainer of the base with an adapter of that shape."""
    backend = choose_backend("torch", precision="float32")

    def made(lora: LoraConfig) -> Trainer:
        return backend.make(
            base, lora, OptimizerConfig(), seed=0, checkpointing=False, quantised=False
        )

    return made


@pytest.fixture(scope="session")
def by_trainer(base: GGUFFile, make: Callable[[LoraConfig], Trainer]) -> TrainerLosses:
    return TrainerLosses(base, make, 512)


class CountingEngine(LocalEngine):
    """A real one that counts the tokens that went through the model."""

    evaluated = 0

    def score(self, requests: Sequence[ScoreRequest]) -> Generator[Score, None, None]:
        for score in super().score(requests):
            self.evaluated += score.tokens - score.shared_tokens
            yield score


@pytest.fixture(scope="session")
def engine(base: GGUFFile) -> Iterator[CountingEngine]:
    with closing(CountingEngine(EngineOptions(base.path, context=512, threads=1))) as engine:
        yield engine


@pytest.fixture(scope="session")
def by_engine(engine: CountingEngine) -> EngineLosses:
    return EngineLosses(engine)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three answers of one class and one of another."""
    path = tmp_path / "held-out.jsonl"
    with path.open("w") as file:
        for name, answers in ANSWERS.items():
            for number, answer in enumerate(answers):
                messages = [
                    {"role": "user", "content": f"Which colour has number {number}?"},
                    {"role": "assistant", "content": answer},
                ]
                file.write(json.dumps({"messages": messages, "class": name}) + "\n")
    return path


@pytest.fixture
def read(template: Template, data: Path, tmp_path: Path) -> Callable[..., Answers]:
    """The answers in `data`, as what adapters with these cards are measured on."""

    folders = (tmp_path / f"rows-{number}" for number in count())

    def found(*cards: AdapterCard, **more: Any) -> Answers:
        options = more.pop("options", DataOptions())
        return read_answers(
            data, options, template, cards, next(folders), **{"context": 512} | more
        )

    return found
