"""Quantised blocks keep their values on the way into MLX."""

from __future__ import annotations

from collections.abc import Callable

import gguf
import numpy as np
import pytest

from openchat_local.finetune.backends.mlx.device import DType, Precision
from openchat_local.finetune.backends.mlx.repack import EXACT_TYPES, GROUP, repack
from openchat_local.finetune.backends.mlx.tensors import Quantised, TensorReader
from openchat_local.models.gguf import GGUFFile

import mlx.core as mx  # isort: skip  # after the package that loads OpenBLAS

REQUANTISED = ("Q6_K", "Q3_K", "Q2_K", "IQ3_S", "TQ2_0")


def in_mlx(file: GGUFFile, dtype: DType = "float32") -> dict[str, np.ndarray]:
    """The blocks' matrices as MLX holds them for quantised training, dequantised again."""
    reader = TensorReader(file, Precision(dtype, quantised=True))
    matrices = {}
    for tensor in file.tensors:
        if is_block_matrix(tensor.name):
            held = reader.matrix(tensor.name, (tensor.shape[1], tensor.shape[0]))
            matrices[tensor.name] = unpacked(held) if isinstance(held, Quantised) else held
    return {name: np.array(matrix.astype(mx.float32)) for name, matrix in matrices.items()}


def is_block_matrix(name: str) -> bool:
    return name.startswith("blk.") and "norm" not in name


def unpacked(held: Quantised) -> mx.array:
    """In float32, whatever the precision of the scales."""
    scales, biases = held.scales.astype(mx.float32), held.biases.astype(mx.float32)
    return mx.dequantize(held.weight, scales, biases, group_size=GROUP, bits=held.bits)


def in_gguf(file: GGUFFile) -> dict[str, np.ndarray]:
    """The same matrices, by the reference implementation."""
    data = np.memmap(file.path, np.uint8, mode="r")
    return {
        tensor.name: gguf.quants.dequantize(
            data[tensor.offset :][: tensor.byte_size].reshape(tensor.shape[1], -1),
            gguf.GGMLQuantizationType[tensor.type],
        )
        for tensor in file.tensors
        if is_block_matrix(tensor.name)
    }


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("type", sorted(EXACT_TYPES))
def test_any_blocks_keep_their_values_exactly(type: str) -> None:
    random = np.random.default_rng(0)
    kind = gguf.GGMLQuantizationType[type]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    raw = random.integers(0, 256, (6, 4, size), dtype=np.uint8)
    # Every bit is random but those of the scales at the front.
    if type == "MXFP4":  # whose scale is the exponent of a float32
        raw[..., 0] = random.integers(64, 192, (6, 4))
    else:
        halves = 2 if type in ("Q4_1", "Q5_1", "Q4_K", "Q5_K") else 1
        scales = random.standard_normal((6, 4, halves)).astype("<f2")
        raw[..., : 2 * halves] = scales.view(np.uint8)
    raw = raw.reshape(6, 4 * size)
    packed = repack(raw, type)
    held = Quantised(packed.bits, *map(mx.array, (packed.words, packed.scales, packed.biases)))
    np.testing.assert_array_equal(np.array(unpacked(held)), gguf.quants.dequantize(raw, kind))
    assert packed.words.shape == (6, 4 * block * packed.bits // 32)


@pytest.mark.parametrize("type", [*sorted(EXACT_TYPES), "F16", "BF16", "F32"])
def test_a_models_matrices_keep_their_values_exactly(
    type: str, tiny: GGUFFile, quantised_tiny: Callable[[str], GGUFFile]
) -> None:
    file = tiny if type == "F32" else quantised_tiny(type)
    expected = in_gguf(file)
    found = in_mlx(file)
    assert {tensor.type for tensor in file.tensors if is_block_matrix(tensor.name)} == {type}
    assert found.keys() == expected.keys()
    for name, matrix in found.items():
        np.testing.assert_array_equal(matrix, expected[name], err_msg=name)


@pytest.mark.parametrize("type", REQUANTISED)
def test_types_that_mlx_lacks_become_eight_bits(
    type: str, quantised_tiny: Callable[[str], GGUFFile]
) -> None:
    file = quantised_tiny(type)
    expected = in_gguf(file)
    for name, matrix in in_mlx(file).items():
        assert 0 < relative_error(matrix, expected[name]) < 0.006, name


@pytest.mark.parametrize(("dtype", "bound"), [("float16", 1e-3), ("bfloat16", 8e-3)])
def test_shorter_scales_cost_little(
    dtype: DType, bound: float, quantised_tiny: Callable[[str], GGUFFile]
) -> None:
    file = quantised_tiny("Q4_K")
    expected = in_gguf(file)
    for name, matrix in in_mlx(file, dtype).items():
        assert 0 < relative_error(matrix, expected[name]) < bound, name
