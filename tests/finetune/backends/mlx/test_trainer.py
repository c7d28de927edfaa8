"""A step's sums, gradient and update, and what a checkpoint brings back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from openchat_local.finetune.adapter.lora import (
    LoraConfig,
    LoraError,
    LoraWeights,
    initial_lora,
    lora_shapes,
)
from openchat_local.finetune.backends.mlx.trainer import MLXTrainer
from openchat_local.finetune.backends.trainer import OptimizerConfig
from openchat_local.finetune.data.batches import Batch
from openchat_local.models.gguf import GGUFFile
from support.adapters import random_lora

CONFIG = LoraConfig(rank=4, alpha=8.0)
OPTIMIZER = OptimizerConfig(betas=(0.9, 0.95), weight_decay=0.1, clip=0.0)
LENGTHS = (9, 14, 6, 11)
REWARDS = (1.0, 0.1, 0.1, 1.0)


class Conversation:
    """Random tokens, of which all but the first three are to be learnt."""

    def __init__(self, length: int, reward: float, seed: int) -> None:
        self.ids = np.random.default_rng(seed).integers(3, 32000, length).astype(np.int32)
        self.weights = np.full(length, reward, np.float32)
        self.weights[:3] = 0
        self.class_index = int(reward < 1)


CONVERSATIONS = [
    Conversation(length, reward, seed)
    for seed, (length, reward) in enumerate(zip(LENGTHS, REWARDS, strict=True))
]


def batch(*rows: Sequence[Conversation]) -> Batch:
    """Each row holds conversations one after the other, then padding."""
    columns = max(sum(len(one.ids) for one in row) for row in rows)
    shape = (len(rows), columns)
    tokens, labels, segments = (np.zeros(shape, np.int32) for _ in range(3))
    weights, classes = np.zeros(shape, np.float32), np.full(shape, -1, np.int32)
    for r, row in enumerate(rows):
        start = 0
        for number, one in enumerate(row, 1):
            stop = start + len(one.ids)
            tokens[r, start:stop] = one.ids
            labels[r, start : stop - 1] = one.ids[1:]
            weights[r, start : stop - 1] = one.weights[1:]
            segments[r, start:stop] = number
            classes[r, start:stop] = one.class_index
            start = stop
    return Batch(tokens, labels, weights, segments, classes)


def whole_step() -> list[Batch]:
    return [batch(*([one] for one in CONVERSATIONS))]


def trainer_of(file: GGUFFile, config: LoraConfig = CONFIG, **options: object) -> MLXTrainer:
    """A trainer whose adapter already changes something."""
    trainer = MLXTrainer(file, config, OPTIMIZER, **options)  # type: ignore[arg-type]
    trainer.set_lora(random_lora(file.path, config, seed=1, size=0.05))
    return trainer


def gradient(trainer: MLXTrainer, step: Sequence[Batch]) -> np.ndarray:
    """The gradient of a trainer's first step: its first moment is (1 - β₁) · g."""
    trainer.step(step, 1e-3)
    state = trainer.state()
    names = sorted(name for name in state if name.startswith("mean."))
    return np.concatenate([state[name].ravel() for name in names]) / (1 - OPTIMIZER.betas[0])


def reference_losses(trainer: MLXTrainer) -> list[np.ndarray]:
    """Cross-entropy of each conversation's tokens after the first, in float64."""
    losses = []
    for one in CONVERSATIONS:
        logits = trainer.logits(one.ids).astype(np.float64)[:-1]
        highest = logits.max(-1)
        partition = highest + np.log(np.exp(logits - highest[:, None]).sum(-1))
        losses.append(partition - logits[np.arange(len(logits)), one.ids[1:]])
    return losses


def same(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def arrays(lora: LoraWeights) -> dict[str, np.ndarray]:
    return {f"{name}.{side}": getattr(lora[name], side) for name in lora for side in "ab"}


PACKED = batch(CONVERSATIONS[:2], CONVERSATIONS[2:])


@pytest.mark.parametrize(
    "step",
    [
        [batch([one]) for one in CONVERSATIONS],
        [PACKED],
        [batch(CONVERSATIONS)],
        [batch(CONVERSATIONS[:3]), batch([CONVERSATIONS[3]])],
    ],
    ids=["accumulated", "packed", "one row", "packed and accumulated"],
)
def test_the_gradient_is_the_same_however_a_step_is_cut(step: list[Batch], tiny: GGUFFile) -> None:
    expected = gradient(trainer_of(tiny), whole_step())
    found = gradient(trainer_of(tiny), step)
    assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)


def test_checkpointing_changes_no_gradient_and_dropout_neither(tiny: GGUFFile) -> None:
    config = LoraConfig(rank=4, alpha=8.0, dropout=0.5)
    kept = gradient(trainer_of(tiny, config, checkpointing=False), [PACKED])
    again = gradient(trainer_of(tiny, config, checkpointing=True), [PACKED])
    plain = gradient(trainer_of(tiny), [PACKED])
    assert np.linalg.norm(again - kept) < 1e-5 * np.linalg.norm(kept)
    assert np.linalg.norm(plain - kept) > 0.1 * np.linalg.norm(kept)


def test_the_loss_is_one_division_of_float64_sums(tiny: GGUFFile) -> None:
    trainer = trainer_of(tiny)
    losses = reference_losses(trainer)
    weights = [one.weights[1:].astype(np.float64) for one in CONVERSATIONS]
    total = sum((w * ce).sum() for w, ce in zip(weights, losses, strict=True))
    evaluated = trainer.evaluate(PACKED)
    result = trainer.step([batch([one]) for one in CONVERSATIONS], 1e-3)
    assert result.loss == pytest.approx(total / sum(w.sum() for w in weights), rel=1e-6)
    for index in (0, 1):
        mine = [i for i, one in enumerate(CONVERSATIONS) if one.class_index == index]
        learnt = [losses[i][2:] for i in mine]
        for sums in (result.classes[index], evaluated[index]):
            assert sums.loss == pytest.approx(sum(map(np.sum, learnt)), rel=1e-6)
            assert sums.weight == pytest.approx(sum(weights[i].sum() for i in mine), rel=1e-6)
            assert sums.tokens == sum(map(len, learnt))
            reward = REWARDS[mine[0]]
            assert sums.weighted_loss == pytest.approx(reward * sums.loss, rel=1e-6)


def test_correct_predictions_are_counted(tiny: GGUFFile) -> None:
    trainer = trainer_of(tiny)
    one = CONVERSATIONS[0]
    guesses = trainer.logits(one.ids).argmax(-1).astype(np.int32)
    given = batch([one])
    given.labels[0, 3:6] = guesses[3:6]  # three right answers among the six that count
    assert trainer.evaluate(given)[0].correct == 3


def test_the_gradient_is_the_slope_of_the_loss(tiny: GGUFFile) -> None:
    trainer = trainer_of(tiny)
    start = trainer.lora()
    slope = gradient(trainer, [PACKED])
    names = sorted(arrays(start))
    direction = np.random.default_rng(2).standard_normal(slope.size)
    direction *= 1e-2 / np.linalg.norm(direction)
    direction += slope * 1e-2 / np.linalg.norm(slope)

    def loss_at(distance: float) -> float:
        offset, moved = 0, {}
        for name in names:
            value = arrays(start)[name]
            part = direction[offset : offset + value.size].reshape(value.shape)
            moved[name] = (value + distance * part).astype(np.float32)
            offset += value.size
        pairs = {name: type(start[name])(moved[f"{name}.a"], moved[f"{name}.b"]) for name in start}
        trainer.set_lora(pairs)
        sums = trainer.evaluate(PACKED).values()
        return sum(s.weighted_loss for s in sums) / sum(s.weight for s in sums)

    measured = (loss_at(1) - loss_at(-1)) / 2
    assert measured == pytest.approx(float(slope @ direction), rel=5e-3)


def test_a_long_gradient_is_shortened_to_the_limit(tiny: GGUFFile) -> None:
    free = trainer_of(tiny)
    expected = gradient(free, [PACKED])
    limited = MLXTrainer(tiny, CONFIG, OptimizerConfig(betas=OPTIMIZER.betas, clip=1e-3))
    limited.set_lora(trainer_of(tiny).lora())
    result = limited.step([PACKED], 1e-3)
    state = limited.state()
    means = [state[name].ravel() for name in sorted(state) if name.startswith("mean.")]
    assert result.gradient_norm == pytest.approx(np.linalg.norm(expected), rel=1e-5)
    assert np.linalg.norm(np.concatenate(means)) == pytest.approx(1e-3 * 0.1, rel=1e-2)


def test_training_goes_on_to_the_bit_from_a_state(tiny: GGUFFile) -> None:
    config = LoraConfig(rank=4, dropout=0.2)
    first = MLXTrainer(tiny, config, OPTIMIZER, seed=3)
    first.step([PACKED], 1e-2)
    state = first.state()
    uninterrupted = [first.step([PACKED], 1e-2).loss for _ in range(2)]
    second = MLXTrainer(tiny, config, OPTIMIZER, seed=4)
    second.load_state(state)
    assert same(second.state(), state)
    resumed = [second.step([PACKED], 1e-2).loss for _ in range(2)]
    assert resumed == uninterrupted
    assert same(second.state(), first.state())


def test_a_checkpoint_keeps_the_names_that_it_always_had(tiny: GGUFFile) -> None:
    config = LoraConfig(rank=4, targets=("attn_q",), layers=1)
    a, b = np.full((4, 256), 0.1, np.float32), np.full((256, 4), 0.2, np.float32)
    state = {
        "lora.blk.1.attn_q.a": a, "lora.blk.1.attn_q.b": b,
        "mean.blk.1.attn_q.a": a / 2, "mean.blk.1.attn_q.b": b / 2,
        "square.blk.1.attn_q.a": a / 4, "square.blk.1.attn_q.b": b / 4,
        "steps": np.array(7), "seed": np.array(5),
    }  # fmt: skip
    trainer = MLXTrainer(tiny, config)
    trainer.load_state(state)
    assert same(trainer.state(), state)


def test_a_step_that_is_not_finite_changes_nothing(tiny: GGUFFile) -> None:
    trainer = trainer_of(tiny)
    trainer.step([PACKED], 1e-3)
    before = trainer.state()
    broken = batch([CONVERSATIONS[0]])
    broken.weights[0, 4] = np.inf
    assert not np.isfinite(trainer.step([PACKED, broken], 1e-3).loss)
    assert same(trainer.state(), before)
    assert np.isfinite(trainer.step([PACKED], 1e-3).loss)
    assert not same(trainer.state(), before)


def test_a_fresh_adapter_changes_nothing_and_learns(tiny: GGUFFile) -> None:
    trainer = MLXTrainer(tiny, LoraConfig(), OPTIMIZER)
    plain = MLXTrainer(tiny, LoraConfig(targets=("attn_q",), layers=1), OPTIMIZER)
    ids = CONVERSATIONS[1].ids
    np.testing.assert_array_equal(trainer.logits(ids), plain.logits(ids))
    losses = [trainer.step([PACKED], 1e-2).loss for _ in range(6)]
    assert losses[-1] < 0.7 * losses[0]


def test_targets_and_layers_say_what_is_adapted(tiny: GGUFFile) -> None:
    config = LoraConfig(rank=4, targets=("attn_v", "ffn_down"), layers=1)
    trainer = MLXTrainer(tiny, config)
    assert lora_shapes(tiny, config) == {
        "blk.1.attn_v": (128, 256),
        "blk.1.ffn_down": (256, 512),
    }
    assert {name: (p.b.shape[0], p.a.shape[1]) for name, p in trainer.lora().items()} == (
        lora_shapes(tiny, config)
    )
    with pytest.raises(LoraError, match=r"blk\.0"):
        trainer.set_lora(random_lora(tiny.path, CONFIG, seed=1))
    other = LoraConfig(rank=2, targets=config.targets, layers=1)
    with pytest.raises(LoraError, match="rank 4"):
        trainer.set_lora(initial_lora(lora_shapes(tiny, other), other, seed=1))


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (LoraConfig(targets=("q_proj",)), "q_proj.*attn_q"),
        (LoraConfig(rank=0), "rank of 0"),
        (LoraConfig(dropout=1.0), "dropout"),
        (LoraConfig(layers=3), "has 2"),
    ],
)
def test_an_impossible_adapter_is_refused(config: LoraConfig, told: str, tiny: GGUFFile) -> None:
    with pytest.raises(LoraError, match=told):
        MLXTrainer(tiny, config)


def test_it_says_what_it_computed_with(tiny: GGUFFile) -> None:
    told = MLXTrainer(tiny, CONFIG).describe()
    assert told["backend"] == "mlx"
    assert told["base"] == tiny.fingerprint
    assert told["base_types"] == {"F32": 20}
    assert bool(told["notes"]) == (told["blas"] == "reference")
