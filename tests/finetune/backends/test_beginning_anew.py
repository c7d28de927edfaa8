"""A trainer that begins anew is as one that was just made: a base is loaded once for many runs."""

from __future__ import annotations

import numpy as np
import pytest

from openchat_local.finetune.adapter.lora import LoraConfig
from openchat_local.finetune.backends.choose import choose_backend
from openchat_local.finetune.backends.trainer import OptimizerConfig, Trainer
from openchat_local.finetune.data.batches import Batch
from openchat_local.models.gguf import GGUFFile

LORA = LoraConfig(rank=4, dropout=0.1)


def batch() -> Batch:
    random = np.random.default_rng(0)
    tokens = random.integers(3, 32000, (2, 16)).astype(np.int32)
    ones = np.ones_like(tokens)
    return Batch(tokens, np.roll(tokens, -1, 1), ones.astype(np.float32), ones, 0 * ones)


def trained(trainer: Trainer) -> dict[str, bytes]:
    """Everything about it after three steps."""
    for _ in range(3):
        trainer.step([batch()], 1e-2)
    return {name: array.tobytes() for name, array in trainer.state().items()}


@pytest.mark.parametrize("name", ["mlx", "torch"])
def test_a_trainer_that_begins_anew_learns_what_a_new_one_does(name: str, small: GGUFFile) -> None:
    if name == "torch":
        pytest.importorskip("torch", reason="set up with TORCH=no")
    backend = choose_backend(name, precision="float32")

    def made(seed: int) -> Trainer:
        return backend.make(
            small, LORA, OptimizerConfig(), seed=seed, checkpointing=False, quantised=False
        )

    kept = made(1)
    first = trained(kept)
    kept.begin(2)
    second = trained(kept)
    assert second == trained(made(2))
    assert second != first
    kept.begin(1)
    assert trained(kept) == first
