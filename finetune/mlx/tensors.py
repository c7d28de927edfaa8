"""Tensors of a GGUF file as MLX arrays, dense or quantised, a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import gguf
import mlx.core as mx
import numpy as np

from openchat_local.finetune.mlx.device import Precision
from openchat_local.finetune.mlx.repack import EXACT_TYPES, GROUP, repack
from openchat_local.models.errors import ModelFileError
from openchat_local.models.gguf import GGUFFile, Tensor

_DENSE_TYPES = frozenset({"F32", "F16", "BF16"})
# What MLX has no layout for (groups of 16, or code books) becomes 8 bit.
_REQUANTISED_BITS = 8
# As float32, read at a time.
_PIECE_BYTES = 128 * 2**20


@dataclass(frozen=True, slots=True)
class Quantised:
    """A matrix in MLX's affine form: `weight` uint32 words, a scale and a bias a group."""

    bits: int
    weight: mx.array
    scales: mx.array
    biases: mx.array


class TensorReader:
    """A file's metadata and tensors; `left` are those that nobody has asked for yet.

    Every method raises ModelFileError where the file is not what its header promises.
    """

    def __init__(self, file: GGUFFile, precision: Precision) -> None:
        self.file = file
        self.precision = precision
        self.left = {tensor.name: tensor for tensor in file.tensors}
        self._bytes = np.memmap(file.path, np.uint8, mode="r")

    def number(self, key: str, default: float | None = None) -> float:
        """A number of the metadata."""
        value = self.file.metadata.get(key, default)
        if not isinstance(value, int | float):
            raise self.unusable(f"no usable {key!r}")
        return float(value)

    def tensor(self, name: str) -> Tensor:
        """A tensor that has not been taken yet."""
        if name not in self.left:
            raise self.unusable(f"no tensor {name!r}")
        return self.left[name]

    def values(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Take a tensor, dequantised to float32."""
        tensor = self._take(name, shape)
        pieces = [_dequantised(raw, tensor.type) for raw in self._pieces(tensor)]
        whole: np.ndarray = np.concatenate(pieces).reshape(shape)
        return whole

    def vector(self, name: str, length: int) -> mx.array:
        """Take a vector."""
        return mx.array(self.values(name, (length,))).astype(self.precision.mx_dtype)

    def matrix(self, name: str, shape: tuple[int, int]) -> mx.array | Quantised:
        """Take a matrix of `shape` (rows, columns), in the form that the precision asks for."""
        tensor = self._take(name, shape)
        if self.precision.quantised and tensor.type not in _DENSE_TYPES:
            pieces = [self._quantised(raw, tensor.type) for raw in self._pieces(tensor)]
            return Quantised(
                pieces[0].bits,
                _joined([piece.weight for piece in pieces]),
                _joined([piece.scales for piece in pieces]),
                _joined([piece.biases for piece in pieces]),
            )
        dense = (mx.array(_dequantised(raw, tensor.type)) for raw in self._pieces(tensor))
        return _joined([piece.astype(self.precision.mx_dtype) for piece in dense])

    def unusable(self, what: str) -> ModelFileError:
        """An error saying that the file has `what`."""
        return ModelFileError(
            f"{self.file.path} has {what}, so it cannot be fine-tuned: "
            "use another conversion of the model."
        )

    def _take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        tensor = self.tensor(name)
        if tensor.shape != tuple(reversed(shape)):
            raise self.unusable(f"a tensor {name!r} of an unexpected shape {tensor.shape}")
        if tensor.type not in gguf.GGMLQuantizationType.__members__:
            raise self.unusable(f"the type {tensor.type}, which cannot be read yet")
        return self.left.pop(name)

    def _pieces(self, tensor: Tensor) -> Iterator[np.ndarray]:
        """Its rows as (rows, bytes) uint8, some at a time."""
        raw = self._bytes[tensor.offset : tensor.offset + tensor.byte_size]
        width = tensor.shape[0]
        rows = raw.reshape(-1, tensor.byte_size * width // _size(tensor))
        count = max(_PIECE_BYTES // (4 * width), 1)
        for start in range(0, len(rows), count):
            yield rows[start : start + count]

    def _quantised(self, raw: np.ndarray, type: str) -> Quantised:
        dtype = self.precision.mx_dtype
        if type in EXACT_TYPES:
            packed = repack(raw, type)
            bits, weight = packed.bits, mx.array(packed.words)
            scales, biases = mx.array(packed.scales), mx.array(packed.biases)
        else:
            bits = _REQUANTISED_BITS
            values = mx.array(_dequantised(raw, type))
            weight, scales, biases = mx.quantize(values, group_size=GROUP, bits=bits)
        scales, biases = scales.astype(dtype), biases.astype(dtype)
        mx.eval(weight, scales, biases)
        return Quantised(bits, weight, scales, biases)


def _dequantised(raw: np.ndarray, type: str) -> np.ndarray:
    """(rows, columns) float32."""
    values: np.ndarray = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[type])
    return values.astype(np.float32, copy=False)


def _joined(pieces: list[mx.array]) -> mx.array:
    whole = pieces[0] if len(pieces) == 1 else mx.concatenate(pieces)
    mx.eval(whole)
    return whole


def _size(tensor: Tensor) -> int:
    size = 1
    for length in tensor.shape:
        size *= length
    return size
