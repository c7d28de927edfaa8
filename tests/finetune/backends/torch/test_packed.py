"""Quantised blocks multiplied out by torch are what `gguf` says they are."""

from __future__ import annotations

from collections.abc import Callable

import gguf
import numpy as np
import pytest

from openchat_local.finetune.adapter.lora import LoraConfig
from openchat_local.models.gguf import GGUFFile

pytest.importorskip("torch", reason="set up with TORCH=no")

import torch

from openchat_local.finetune.backends.torch.device import Precision
from openchat_local.finetune.backends.torch.packed import PACKED_TYPES, PackedLinear, dequantise
from openchat_local.finetune.backends.torch.trainer import TorchTrainer

CPU = torch.device("cpu")


@pytest.mark.parametrize("type", sorted(PACKED_TYPES))
def test_every_type_is_multiplied_out_as_its_reference_does(type: str) -> None:
    kind = gguf.GGMLQuantizationType[type]
    values_of_block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    random = np.random.default_rng(0)
    blocks = random.integers(0, 256, (6 * 3, block_bytes), np.uint8)
    # The scales are float16 somewhere in the block: any bytes that are finite do.
    with np.errstate(invalid="ignore"):
        expected = gguf.quants.dequantize(blocks, kind)
    whole = np.isfinite(expected).all(-1)
    raw = blocks[whole][: whole.sum() // 3 * 3].reshape(3, -1)
    expected = gguf.quants.dequantize(raw, kind)
    found = dequantise(torch.from_numpy(raw), type)
    assert found.shape == (3, raw.shape[1] // block_bytes * values_of_block)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-6)


def test_a_packed_product_and_its_gradient_are_those_of_the_dense_matrix() -> None:
    random = np.random.default_rng(0)
    dense = random.standard_normal((24, 64), dtype=np.float32)
    raw = gguf.quants.quantize(dense, gguf.GGMLQuantizationType.Q8_0)
    held = torch.from_numpy(gguf.quants.dequantize(raw, gguf.GGMLQuantizationType.Q8_0))
    layer = PackedLinear(torch.from_numpy(raw), "Q8_0", 64, torch.float32)
    x = torch.from_numpy(random.standard_normal((2, 5, 64), dtype=np.float32)).requires_grad_()
    y = layer(x)
    torch.testing.assert_close(y, x @ held.T)
    (slope,) = torch.autograd.grad(y.square().sum(), x)
    torch.testing.assert_close(slope, 2 * (x @ held.T) @ held)


@pytest.mark.parametrize("type", ["Q4_K", "Q6_K", "Q3_K", "Q5_0", "IQ4_XS", "MXFP4"])
def test_a_model_in_its_blocks_computes_what_its_dense_form_does(
    type: str, quantised_tiny: Callable[[str], GGUFFile]
) -> None:
    file = quantised_tiny(type)
    ids = np.random.default_rng(0).integers(3, file.vocab_size, 12).astype(np.int32)
    found = [
        TorchTrainer(file, LoraConfig(), device=CPU, precision=Precision("float32", packed))
        for packed in (False, True)
    ]
    np.testing.assert_allclose(found[1].logits(ids), found[0].logits(ids), atol=1e-4)
    assert found[1].describe()["notes"] == []


def test_types_of_vectors_code_books_are_held_nearly_and_said(
    quantised_tiny: Callable[[str], GGUFFile],
) -> None:
    file = quantised_tiny("IQ3_S")
    ids = np.random.default_rng(0).integers(3, file.vocab_size, 12).astype(np.int32)
    dense, packed = (
        TorchTrainer(file, LoraConfig(), device=CPU, precision=Precision("float32", packed))
        for packed in (False, True)
    )
    assert np.abs(packed.logits(ids) - dense.logits(ids)).mean() < 0.02
    (note,) = packed.describe()["notes"]
    assert "IQ3_S" in note
