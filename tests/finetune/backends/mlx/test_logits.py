"""MLX and llama.cpp compute the same function of the same file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openchat_local.finetune.adapter import write_gguf
from openchat_local.finetune.adapter.lora import LoraConfig
from openchat_local.finetune.backends.mlx.device import Precision
from openchat_local.finetune.backends.mlx.trainer import MLXTrainer
from openchat_local.models.errors import ModelFileError
from openchat_local.models.gguf import GGUFFile, read_gguf
from support.adapters import Logits, expert_card, random_lora
from support.openchat_gguf import openchat_vocabulary, write_model
from support.quantised import quantised

CONFIG = LoraConfig(rank=4, alpha=8.0, rslora=True)


def some_ids(file: GGUFFile, count: int = 12) -> np.ndarray:
    return np.random.default_rng(0).integers(3, file.vocab_size, count).astype(np.int32)


def assert_agree(found: np.ndarray, expected: np.ndarray) -> None:
    """Mean error below 0.01, and the same likeliest token wherever that is no close call."""
    error = np.abs(found - expected)
    assert error.mean() < 0.01
    second, first = np.sort(expected, axis=-1)[:, -2:].T
    clear = first - second > 2 * error.max()
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(found.argmax(-1)[clear], expected.argmax(-1)[clear])


@pytest.mark.parametrize("model", ["tiny", "llama_3_shaped", "starter_f32"])
def test_logits_are_those_of_llama_cpp(model: str, request: pytest.FixtureRequest) -> None:
    file: GGUFFile = request.getfixturevalue(model)
    ids = some_ids(file)
    reference = Logits(file.path)
    assert_agree(MLXTrainer(file, CONFIG).logits(ids), reference(ids.tolist()))
    reference.close()


def test_logits_with_an_adapter_are_those_of_llama_cpp(
    llama_3_shaped: GGUFFile, tmp_path: Path
) -> None:
    file = llama_3_shaped
    ids = some_ids(file)
    weights = random_lora(file.path, CONFIG, seed=1, size=0.1)
    adapter = tmp_path / "adapter.gguf"
    write_gguf(adapter, weights, CONFIG, file, expert_card(file.path))
    trainer = MLXTrainer(file, CONFIG)
    plain = trainer.logits(ids)
    trainer.set_lora(weights)
    adapted = trainer.logits(ids)
    reference = Logits(file.path)
    assert_agree(adapted, reference(ids.tolist(), adapter))
    reference.close()
    assert np.abs(adapted - plain).mean() > 0.1


def test_a_quantised_base_computes_what_its_dense_form_does(f16_path: Path) -> None:
    file = read_gguf(quantised(f16_path, "Q5_K", embedding=True))
    ids = some_ids(file)
    dense = MLXTrainer(file, CONFIG, precision=Precision("float32", quantised=False))
    packed = MLXTrainer(file, CONFIG, precision=Precision("float32", quantised=True))
    np.testing.assert_allclose(packed.logits(ids), dense.logits(ids), atol=1e-4)


# Twice what was seen on logits that spread by 1. The wide bounds are of quantised products,
# which MLX sums in half precision on a CPU: 0.037 off in bfloat16 where a dense one is 0.001.
@pytest.mark.parametrize(
    ("precision", "bound"),
    [
        (Precision("float16", quantised=False), 0.002),
        (Precision("bfloat16", quantised=False), 0.02),
        (Precision("float16", quantised=True), 0.013),
        (Precision("bfloat16", quantised=True), 0.09),
    ],
)
def test_half_precision_stays_near(
    precision: Precision, bound: float, quantised_tiny: Callable[[str], GGUFFile]
) -> None:
    file = quantised_tiny("Q4_K")
    ids = some_ids(file, 8)
    exact = MLXTrainer(file, CONFIG).logits(ids)
    near = MLXTrainer(file, CONFIG, precision=precision).logits(ids)
    assert 0 < np.abs(near - exact).mean() < bound


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"architecture": "mamba"}, "'mamba'.*Llama, Mistral, SmolLM2, OpenChat 3.*Qwen3"),
        ({"extra": {"blk.0.attn_q.bias": np.ones(256, np.float32)}}, "'blk.0.attn_q.bias'"),
        ({"weights": False}, "no tensor"),
    ],
)
def test_what_is_not_supported_is_named(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    path = write_model(tmp_path / "other.gguf", openchat_vocabulary(), **change)
    with pytest.raises(ModelFileError, match=told):
        MLXTrainer(read_gguf(path), CONFIG)
