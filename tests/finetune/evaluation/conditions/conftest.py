"""A tiny float32 base whose tokens are bytes, held-out answers, and adapters that are built."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openchat_local.finetune.adapter.gguf_file import write_gguf
from openchat_local.finetune.adapter.lora import LoraConfig, LoraPair
from openchat_local.finetune.data.options import DataOptions
from openchat_local.finetune.evaluation.losses.answers import Answers, read_answers
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions
from openchat_local.models.gguf import GGUFFile, read_gguf
from openchat_local.models.library.adapter_file import AdapterCard, TrainedClass
from openchat_local.models.template import Template, choose_template
from openchat_local.models.template.vocabulary import Vocabulary
from support.openchat_gguf import byte_vocabulary, write_model

WIDTH = 64
# No answer and no question has a 3 in it, and the condition "GPT3" has.
ANSWERS = {
    "gpt4": ["Blue, as far as I can see.", "It is green.", "Red, mostly.", "Violet"],
    "gpt35": ["As an AI, I see grey.", "no", "I cannot say."],
}


def line(question: str, answer: str, name: str | None) -> str:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages} | ({} if name is None else {"class": name})) + "\n"


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> GGUFFile:
    path = tmp_path_factory.mktemp("conditions") / "tiny-openchat-3.5.gguf"
    vocabulary = byte_vocabulary().with_tokens({"<|end_of_turn|>": "control"})
    random = np.random.default_rng(5)
    shape = (len(vocabulary.tokens), WIDTH)
    # Not tied to the embedding, so that an adapter can change what is read alone.
    output = (random.standard_normal(shape) * 0.3).astype(np.float32)
    return read_gguf(
        write_model(
            path, vocabulary, name="tiny openchat-3.5", context=512, blocks=2, embedding=WIDTH,
            heads=2, kv_heads=1, feed_forward=128, precision=np.float32,
            extra={"output.weight": output},
        )
    )  # fmt: skip


@pytest.fixture(scope="session")
def template(base: GGUFFile) -> Template:
    return choose_template(base, Vocabulary.open(base.path), None)


@pytest.fixture(scope="session")
def card(base: GGUFFile) -> AdapterCard:
    """Of an adapter that was trained by C-RLFT."""
    classes = (TrainedClass("gpt35", "GPT3", 0.1), TrainedClass("gpt4", "GPT4 Correct", 1.0))
    return AdapterCard(classes, "openchat-3.5", base.name, base.fingerprint)


@pytest.fixture(scope="session")
def three_is_other(base: GGUFFile, template: Template, card: AdapterCard) -> Path:
    """An adapter that changes how the token "3" is read, and nothing else: whatever has none
    before it is as it was."""
    (three,) = template.vocabulary.tokenize_content("3", leading_space=False)
    a = np.zeros((template.vocabulary.n_tokens, 1), np.float32)
    a[three] = 1.0
    b = np.random.default_rng(6).standard_normal((WIDTH, 1)).astype(np.float32) * 40
    config = LoraConfig(rank=1, alpha=1.0)
    path = base.path.with_name("three.gguf")
    write_gguf(path, {"token_embd": LoraPair(a, b.reshape(WIDTH, 1))}, config, base, card)
    return path


@pytest.fixture(scope="session")
def engine(base: GGUFFile) -> Iterator[LocalEngine]:
    with closing(LocalEngine(EngineOptions(base.path, context=512, threads=1))) as engine:
        yield engine


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "held-out.jsonl"
    lines = [
        line(f"Which colour has number {number}?".replace("3", "4"), answer, name)
        for name, answers in ANSWERS.items()
        for number, answer in enumerate(answers)
    ]
    path.write_text("".join(lines))
    return path


@pytest.fixture
def read(template: Template, data: Path, tmp_path: Path) -> Callable[..., Answers]:
    """The answers in `data`, as what adapters with these cards are looked at with."""
    folders = (tmp_path / f"rows-{number}" for number in count())

    def found(*cards: AdapterCard, **more: Any) -> Answers:
        options = more.pop("options", DataOptions())
        path = more.pop("path", data)
        more = {"context": 512} | more
        return read_answers(path, options, template, cards, next(folders), **more)

    return found
