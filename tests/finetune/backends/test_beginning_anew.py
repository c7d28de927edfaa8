"""How a trainer begins: anew, as one that was just made, or with the weights of an adapter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from openchat_local.finetune.adapter import read_gguf_adapter
from openchat_local.finetune.adapter.lora import LoraConfig
from openchat_local.finetune.backends.choose import choose_backend
from openchat_local.finetune.backends.trainer import OptimizerConfig, Trainer
from openchat_local.finetune.data.batches import Batch
from openchat_local.finetune.run.parent import lora_of, read_parent
from openchat_local.models.gguf import GGUFFile
from support.adapters import write_random_adapter

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


def trainer(name: str, base: GGUFFile, seed: int, lora: LoraConfig = LORA) -> Trainer:
    if name == "torch":
        pytest.importorskip("torch", reason="set up with TORCH=no")
    return choose_backend(name, precision="float32").make(
        base, lora, OptimizerConfig(), seed=seed, checkpointing=False, quantised=False
    )


@pytest.mark.parametrize("name", ["mlx", "torch"])
def test_a_trainer_that_begins_anew_learns_what_a_new_one_does(name: str, small: GGUFFile) -> None:
    def made(seed: int) -> Trainer:
        return trainer(name, small, seed)

    kept = made(1)
    first = trained(kept)
    kept.begin(2)
    second = trained(kept)
    assert second == trained(made(2))
    assert second != first
    kept.begin(1)
    assert trained(kept) == first


@pytest.mark.parametrize("name", ["mlx", "torch"])
def test_a_trainer_that_begins_with_an_adapter_is_that_adapter(
    name: str, small: GGUFFile, tmp_path: Path
) -> None:
    path = write_random_adapter(tmp_path / "first.gguf", small.path, targets=("attn_q", "ffn_up"))
    lora = lora_of(path, small)
    made = trainer(name, small, 0, lora)
    made.set_lora(read_parent(path, small, lora).weights)
    expected, config, _ = read_gguf_adapter(path)
    found, state = made.lora(), made.state()
    assert found.keys() == expected.keys()
    for layer, pair in expected.items():
        np.testing.assert_array_equal(found[layer].a, pair.a)
        np.testing.assert_array_equal(found[layer].b, pair.b)
    assert (lora.rank, lora.scale, lora.layers) == (4, config.scale, None)
    assert state["steps"] == 0
    assert not any(np.any(state[key]) for key in state if key.startswith(("mean.", "square.")))
