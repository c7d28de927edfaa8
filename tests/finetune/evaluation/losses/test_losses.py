"""Nats of held-out answers by llama.cpp and by a training backend, against NumPy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openchat_local.finetune.adapter.gguf_file import write_gguf
from openchat_local.finetune.adapter.lora import (
    LoraConfig,
    LoraPair,
    LoraWeights,
    initial_lora,
    lora_shapes,
)
from openchat_local.finetune.backends.trainer import Trainer
from openchat_local.finetune.data.batches import Row, build_batch
from openchat_local.finetune.data.crlft import weigh
from openchat_local.finetune.data.example import Example
from openchat_local.finetune.data.policy import ClassRule, Policy
from openchat_local.finetune.evaluation.losses.answers import Answers
from openchat_local.finetune.evaluation.losses.by_engine import EngineLosses
from openchat_local.finetune.evaluation.losses.by_trainer import TrainerLosses
from openchat_local.finetune.evaluation.losses.measuring import Losses
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.protocol import AdapterChoice
from openchat_local.models.gguf import GGUFFile
from openchat_local.models.library.adapter_file import AdapterCard
from openchat_local.models.template import Template
from support.adapters import Logits

BARE = AdapterChoice()
# Nats of a loss per token. llama.cpp's attention rounds to float16 (ten bits), and a token's
# loss is about ten nats here.
ROUNDING = 2e-3


@pytest.fixture(params=["engine", "trainer"])
def losses(request: pytest.FixtureRequest) -> Losses:
    found: Losses = request.getfixturevalue(f"by_{request.param}")
    return found


@pytest.fixture
def logits(base: GGUFFile) -> Iterator[Logits]:
    found = Logits(base.path)
    yield found
    found.close()


def nats_of(losses: Losses, choice: AdapterChoice, rows: Sequence[Row]) -> np.ndarray:
    """(rows,) in order; each comes once."""
    found = [*losses(choice, rows)]
    assert len(found) == len(rows)
    return np.array([nats for _, nats in sorted(found)])


def expected(logits: np.ndarray, row: Row) -> float:
    """Nats of what has weight, from (tokens, vocabulary) logits."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    where = np.flatnonzero(row.weights)
    return float(-log_p[where - 1, row.ids[where]].sum())


def in_two_turns(data: Path) -> None:
    """Give every conversation a second question and a second answer."""
    lines = [json.loads(line) for line in data.read_text().splitlines()]
    for line in lines:
        line["messages"] += [
            {"role": "user", "content": "Are you sure?"},
            {"role": "assistant", "content": "Yes, as sure as one can be."},
        ]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("scale", [None, 1.0, 0.5], ids=["base", "adapter", "half of it"])
def test_a_row_costs_what_the_logits_say_of_every_assistant_turn(
    scale: float | None,
    losses: Losses,
    logits: Logits,
    adapter: Path,
    data: Path,
    read: Callable[..., Answers],
) -> None:
    in_two_turns(data)
    answers = read()
    rows = answers.rows["GPT3"]
    choice = BARE if scale is None else AdapterChoice(adapter, scale)
    found = nats_of(losses, choice, rows)
    of_llama = [expected(logits(row.ids.tolist(), choice.path, choice.scale), row) for row in rows]
    per_token = np.array(of_llama) / answers.tokens["GPT3"]
    assert found / answers.tokens["GPT3"] == pytest.approx(per_token, abs=ROUNDING)


def test_what_is_judged_is_each_answer_and_its_end_of_turn(
    template: Template, read: Callable[..., Answers]
) -> None:
    (row, *_) = read().rows["GPT4 Correct"]
    turns = Message("user", "Which colour has number 0?"), Message("assistant", "Blue.")
    rendered = template.render(Conversation(turns, "GPT4 Correct"), generate=False)
    spans = [
        span
        for span in rendered.spans
        if span.message == 1 and span.kind in ("content", "end_of_turn")
    ]
    where = np.concatenate([np.arange(span.start, span.end) for span in spans])
    assert np.flatnonzero(row.weights).tolist() == where.tolist()


def test_both_backends_agree_on_a_float32_model(
    by_engine: EngineLosses,
    by_trainer: TrainerLosses,
    adapter: Path,
    data: Path,
    read: Callable[..., Answers],
) -> None:
    in_two_turns(data)
    answers = read()
    for choice in (BARE, AdapterChoice(adapter)):
        for condition, rows in answers.rows.items():
            tokens = answers.tokens[condition]
            one, other = (nats_of(each, choice, rows) for each in (by_engine, by_trainer))
            assert one / tokens == pytest.approx(other / tokens, abs=ROUNDING)
            mean = one.sum() / tokens.sum()
            assert mean == pytest.approx(other.sum() / tokens.sum(), rel=1e-4)


@pytest.fixture(scope="module")
def learned(make: Callable[[LoraConfig], Trainer], template: Template) -> LoraWeights:
    """What a few steps on the first answer make of an adapter."""
    turns = Message("user", "Which colour has number 0?"), Message("assistant", "Blue.")
    example = Example(1, "OpenAI messages", turns, (None, None), "gpt4")
    policy = Policy((ClassRule("gpt4", "GPT4 Correct", 1.0),))
    row = weigh(example, policy, template, 512).row
    assert row is not None
    trainer = make(LoraConfig(rank=2, alpha=4.0))
    for _ in range(4):
        trainer.step([build_batch([row], [[0]])], 0.01)
    return trainer.lora()


def test_an_adapter_that_learned_an_answer_lowers_its_loss_and_its_opposite_raises_it(
    losses: Losses,
    learned: LoraWeights,
    base: GGUFFile,
    tmp_path: Path,
    read: Callable[..., Answers],
) -> None:
    config = LoraConfig(rank=2, alpha=4.0)
    opposite = {name: LoraPair(pair.a, -pair.b) for name, pair in learned.items()}
    rows = read().rows["GPT4 Correct"][:1]
    (before,) = nats_of(losses, BARE, rows)
    after = []
    for name, weights in (("better", learned), ("worse", opposite)):
        path = tmp_path / f"{name}.gguf"
        write_gguf(path, weights, config, base, AdapterCard())
        after.append(nats_of(losses, AdapterChoice(path), rows)[0])
    assert after[0] < before - 0.1
    assert after[1] > before + 0.1


def test_an_adapter_of_another_shape_and_of_some_blocks_follows_the_one_before(
    base: GGUFFile,
    by_engine: EngineLosses,
    by_trainer: TrainerLosses,
    adapter: Path,
    tmp_path: Path,
    read: Callable[..., Answers],
) -> None:
    rank, wide = 2, LoraConfig(rank=2, alpha=4.0, targets=("attn_q", "ffn_down"))
    shapes = lora_shapes(base, wide)
    random = np.random.default_rng(3)
    last = {
        name: LoraPair(pair.a, random.standard_normal((shapes[name][0], rank), np.float32) / 2)
        for name, pair in initial_lora(shapes, wide, 0).items()
        if name.startswith("blk.1.")
    }
    path = tmp_path / "last.gguf"
    write_gguf(path, last, wide, base, AdapterCard())
    answers = read()
    rows, tokens = answers.rows["GPT3"], answers.tokens["GPT3"]
    before = nats_of(by_trainer, BARE, rows)
    nats_of(by_trainer, AdapterChoice(adapter), rows)
    found, same = (nats_of(by_trainer, choice, rows) for choice in (AdapterChoice(path), BARE))
    assert same == pytest.approx(before, rel=1e-6)
    assert np.abs(found - before).min() > 0.01
    by_llama = nats_of(by_engine, AdapterChoice(path), rows)
    assert found / tokens == pytest.approx(by_llama / tokens, abs=ROUNDING)


def test_a_row_of_many_turns_goes_through_the_model_once(
    engine: Any, by_engine: EngineLosses, data: Path, read: Callable[..., Answers]
) -> None:
    in_two_turns(data)
    rows = read().rows["GPT3"]
    before = engine.evaluated
    nats_of(by_engine, BARE, rows)
    # The last token of a row is only judged.
    assert engine.evaluated - before <= sum(len(row.ids) - 1 for row in rows)


def test_rows_of_several_calls_all_come(
    monkeypatch: pytest.MonkeyPatch, by_engine: EngineLosses, read: Callable[..., Answers]
) -> None:
    rows = read().rows["GPT3"]
    at_once = nats_of(by_engine, BARE, rows)
    monkeypatch.setattr("openchat_local.finetune.evaluation.losses.by_engine.TOKENS_A_CALL", 40)
    assert nats_of(by_engine, BARE, rows) == pytest.approx(at_once, rel=1e-4)
