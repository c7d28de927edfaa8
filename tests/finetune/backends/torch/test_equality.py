"""MLX, torch and llama.cpp compute the same; MLX and torch learn the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from openchat_local.finetune.adapter import write_gguf
from openchat_local.finetune.adapter.lora import LoraConfig, LoraError
from openchat_local.finetune.backends.mlx import OPENBLAS
from openchat_local.finetune.backends.mlx.device import Precision as MLXPrecision
from openchat_local.finetune.backends.mlx.trainer import MLXTrainer
from openchat_local.finetune.backends.trainer import OptimizerConfig, Trainer
from openchat_local.finetune.data.batches import Batch, Row, build_batch
from openchat_local.models.gguf import GGUFFile
from openchat_local.models.template.vocabulary import Vocabulary
from support.adapters import Logits, expert_card, random_lora

pytest.importorskip("torch", reason="set up with TORCH=no")

import torch

from openchat_local.finetune.backends.torch.device import Precision
from openchat_local.finetune.backends.torch.trainer import TorchTrainer

CONFIG = LoraConfig(rank=4, alpha=8.0)
OPTIMIZER = OptimizerConfig(weight_decay=0.1)
TEXTS = (
    "The harvest was late that year, and the river stood high until November.",
    "To sort a list in Python, call sorted(list); it returns a new list.",
    "Water boils at 100 degrees Celsius at sea level, and lower on a mountain.",
    "She opened the letter slowly, as if the words could still be changed.",
)


def rows(base: GGUFFile) -> list[Row]:
    """Real text: MLX's sums on a CPU drift where every token surprises."""
    vocabulary = Vocabulary.open(base.path)
    found = []
    for number, text in enumerate(TEXTS):
        ids = np.array(vocabulary.tokenize_content(text), np.int32)
        weights = np.full(len(ids), (1.0, 0.1)[number % 2], np.float32)
        weights[:3] = 0
        found.append(Row(ids, weights, number % 2, number + 1))
    return found


def step_of(base: GGUFFile, *, packed: bool) -> list[Batch]:
    conversations = rows(base)
    if base.block_count > 2:  # the starter, of which two conversations cost enough
        groups = [[(0, 1)]] if packed else [[(0,)], [(1,)]]
        return [build_batch(conversations, group) for group in groups]
    if packed:
        return [build_batch(conversations, [(0, 1, 2), (3,)])]
    return [build_batch(conversations, [(0,), (1,)]), build_batch(conversations, [(2,), (3,)])]


def trainers(base: GGUFFile, *, checkpointing: bool = False) -> tuple[MLXTrainer, TorchTrainer]:
    return (
        MLXTrainer(
            base, CONFIG, OPTIMIZER,
            precision=MLXPrecision("float32", quantised=False), checkpointing=checkpointing,
        ),
        TorchTrainer(
            base, CONFIG, OPTIMIZER,
            device=torch.device("cpu"), precision=Precision("float32", quantised=False),
            checkpointing=checkpointing,
        ),
    )  # fmt: skip


def moments(trainer: Trainer, name: str) -> dict[str, np.ndarray]:
    return {key: value for key, value in trainer.state().items() if key.startswith(f"{name}.")}


@pytest.mark.parametrize("packed", [False, True], ids=["rows", "packed"])
@pytest.mark.parametrize("model", ["tiny", "llama_3_shaped", "starter_f32"])
def test_one_step_has_the_same_loss_and_gradients(
    model: str, packed: bool, request: pytest.FixtureRequest
) -> None:
    base: GGUFFile = request.getfixturevalue(model)
    both = trainers(base, checkpointing=packed)
    step = step_of(base, packed=packed)
    weights = random_lora(base.path, CONFIG, seed=1, size=0.02)
    for trainer in both:
        trainer.set_lora(weights)
    ours, theirs = (trainer.step(step, 1e-3) for trainer in both)
    assert theirs.loss == pytest.approx(ours.loss, rel=1e-5)
    assert theirs.gradient_norm == pytest.approx(ours.gradient_norm, rel=1e-4)
    assert theirs.classes.keys() == ours.classes.keys()
    # On the starter, MLX's own BLAS, which adds up a product one by one, is 8e-4 off float64
    # in some layer; with OpenBLAS it is 3e-5, and torch is 1e-5.
    bound = 1e-4 if OPENBLAS or model != "starter_f32" else 2e-3
    # After one step the first moment is 0.1 times the clipped gradient.
    found, expected = (moments(trainer, "mean") for trainer in both)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        error = np.linalg.norm(gradient - expected[name]) / np.linalg.norm(expected[name])
        assert error < bound, name


def test_gradients_of_the_starter_are_those_in_float64(starter_f32: GGUFFile) -> None:
    step = step_of(starter_f32, packed=True)
    found = []
    for dtype in ("float32", "float64"):
        trainer = TorchTrainer(
            starter_f32, CONFIG, OPTIMIZER, device=torch.device("cpu"),
            precision=Precision(dtype, quantised=False), checkpointing=False,  # type: ignore[arg-type]
        )  # fmt: skip
        trainer.set_lora(random_lora(starter_f32.path, CONFIG, seed=1, size=0.02))
        loss = trainer.step(step, 1e-3).loss
        found.append((loss, moments(trainer, "mean")))
    (loss, gradients), (exact_loss, exact) = found
    assert loss == pytest.approx(exact_loss, rel=1e-6)
    for name, gradient in gradients.items():
        error = np.linalg.norm(gradient - exact[name]) / np.linalg.norm(exact[name])
        assert error < 1e-4, name


def test_twenty_steps_from_one_seed_end_at_the_same_place(small: GGUFFile) -> None:
    both = trainers(small)
    step = step_of(small, packed=False)
    losses = [[trainer.step(step, 1e-3).loss for _ in range(20)] for trainer in both]
    np.testing.assert_allclose(losses[1], losses[0], atol=1e-3)
    assert losses[0][-1] < losses[0][0] - 0.01
    for name, pair in both[0].lora().items():
        other = both[1].lora()[name]
        np.testing.assert_allclose(other.a, pair.a, atol=1e-3)
        np.testing.assert_allclose(other.b, pair.b, atol=1e-3)


@pytest.mark.parametrize("trained_by", [0, 1], ids=["MLX", "torch"])
def test_either_trainers_adapter_gives_llama_cpps_logits(
    trained_by: int, small: GGUFFile, tmp_path: Path
) -> None:
    trainer = trainers(small)[trained_by]
    plain = trainer.logits(rows(small)[0].ids)
    for _ in range(10):
        trainer.step(step_of(small, packed=True), 1e-2)
    ids = rows(small)[0].ids
    found = trainer.logits(ids)
    path = tmp_path / "adapter.gguf"
    write_gguf(path, trainer.lora(), CONFIG, small, expert_card(small.path))
    reference = Logits(small.path)
    expected = reference(ids.tolist(), path)
    reference.close()
    assert np.abs(found - expected).mean() < 0.01
    assert np.abs(found - plain).mean() > 0.1


def test_a_run_begun_on_one_goes_on_on_the_other(small: GGUFFile) -> None:
    step = step_of(small, packed=False)
    straight, other = trainers(small)
    expected = [straight.step(step, 1e-3).loss for _ in range(6)]
    begun, _ = trainers(small)
    for _ in range(3):
        begun.step(step, 1e-3)
    other.load_state(begun.state())
    found = [other.step(step, 1e-3).loss for _ in range(3)]
    np.testing.assert_allclose(found, expected[3:], rtol=1e-4)


def test_accumulation_packing_and_checkpointing_change_nothing(small: GGUFFile) -> None:
    conversations = rows(small)
    steps = {
        "one batch": [build_batch(conversations, [(0,), (1,), (2,), (3,)])],
        "four": [build_batch(conversations, [(i,)]) for i in range(4)],
        "packed": [build_batch(conversations, [(3, 1, 0, 2)])],
    }
    found = {}
    for name, step in steps.items():
        for checkpointing in (False, True):
            trainer = TorchTrainer(
                small, CONFIG, OPTIMIZER, device=torch.device("cpu"),
                precision=Precision("float32", quantised=False), checkpointing=checkpointing,
            )  # fmt: skip
            trainer.set_lora(random_lora(small.path, CONFIG, seed=1))
            result = trainer.step(step, 1e-3)
            found[name, checkpointing] = (result.loss, moments(trainer, "mean"))
    loss, gradients = found["one batch", False]
    for other, slopes in found.values():
        assert other == pytest.approx(loss, rel=1e-6)
        for name, gradient in gradients.items():
            np.testing.assert_allclose(
                slopes[name], gradient, atol=1e-5 * np.abs(gradient).max(), err_msg=name
            )


def test_conversations_of_a_packed_row_do_not_see_each_other(tiny: GGUFFile) -> None:
    conversations = rows(tiny)
    changed = Row(conversations[0].ids[::-1].copy(), conversations[0].weights, 0, 1)
    _, trainer = trainers(tiny)

    def second(first: Row) -> float:
        batch = build_batch([first, conversations[1]], [(0, 1)])
        return trainer.evaluate(batch)[1].loss

    assert second(changed) == second(conversations[0])


def test_dropout_is_the_same_again_and_other_for_another_seed(small: GGUFFile) -> None:
    config = LoraConfig(rank=4, alpha=8.0, dropout=0.5)

    def losses(seed: int) -> Sequence[float]:
        trainer = TorchTrainer(
            small, config, OPTIMIZER, seed=seed, device=torch.device("cpu"), checkpointing=True
        )
        trainer.set_lora(random_lora(small.path, config, seed=1, size=0.1))
        return [trainer.step(step_of(small, packed=False), 1e-3).loss for _ in range(2)]

    assert losses(1) == losses(1)
    assert losses(1)[0] != losses(2)[0]


def test_states_of_other_adapters_are_refused(tiny: GGUFFile) -> None:
    _, trainer = trainers(tiny)
    state = trainer.state()
    state.pop("lora.blk.0.attn_q.a")
    with pytest.raises(LoraError, match=r"lora\.blk\.0\.attn_q\.a"):
        trainer.load_state(state)


def test_memory_that_is_short_is_a_memory_error_and_changes_nothing(tiny: GGUFFile) -> None:
    _, trainer = trainers(tiny)
    before = trainer.state()
    tokens = np.zeros((1, 2**14), np.int32)
    segments = np.ones_like(tokens)
    weights = np.ones(tokens.shape, np.float32)
    huge = Batch(
        *(np.broadcast_to(x, (2**20, 2**14)) for x in (tokens, tokens, weights, segments, tokens))
    )
    with pytest.raises(MemoryError):
        trainer.step([huge], 1e-3)
    after = trainer.state()
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)
