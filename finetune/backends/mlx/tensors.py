"""Tensors of a GGUF file as MLX arrays, dense or quantised, a piece at a time."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from openchat_local.finetune.backends import model_file
from openchat_local.finetune.backends.mlx.device import Precision
from openchat_local.finetune.backends.mlx.repack import (
    EXACT_TYPES,
    GROUP,
    REQUANTISED_BITS,
    repack,
)
from openchat_local.finetune.backends.model_file import DENSE_TYPES, Weights, dequantised
from openchat_local.models.gguf import GGUFFile


@dataclass(frozen=True, slots=True)
class Quantised:
    """A matrix in MLX's affine form: `weight` uint32 words, a scale and a bias a group."""

    bits: int
    weight: mx.array
    scales: mx.array
    biases: mx.array


class TensorReader(model_file.TensorReader):
    """Tensors in the form that `precision` asks for.

    Every method raises ModelFileError where the file is not what its header promises.
    """

    def __init__(
        self, file: GGUFFile, precision: Precision, weights: Weights | None = None
    ) -> None:
        super().__init__(file, weights)
        self.precision = precision

    def vector(self, name: str, length: int, offset: float = 0.0) -> mx.array:
        """Take a vector, less `offset`."""
        values = self.values(name, (length,)) - np.float32(offset)
        return mx.array(values).astype(self.precision.mx_dtype)

    def matrix(self, name: str, shape: tuple[int, int]) -> mx.array | Quantised:
        """Take a matrix of `shape` (rows, columns), in the form that the precision asks for."""
        tensor = self.take(name, shape)
        if self.precision.quantised and tensor.type not in DENSE_TYPES:
            pieces = [self._quantised(raw, tensor.type) for raw in self.pieces(tensor)]
            return Quantised(
                pieces[0].bits,
                _joined([piece.weight for piece in pieces]),
                _joined([piece.scales for piece in pieces]),
                _joined([piece.biases for piece in pieces]),
            )
        dense = (mx.array(dequantised(raw, tensor.type)) for raw in self.pieces(tensor))
        return _joined([piece.astype(self.precision.mx_dtype) for piece in dense])

    def _quantised(self, raw: np.ndarray, type: str) -> Quantised:
        dtype = self.precision.mx_dtype
        if type in EXACT_TYPES:
            packed = repack(raw, type)
            bits, weight = packed.bits, mx.array(packed.words)
            scales, biases = mx.array(packed.scales), mx.array(packed.biases)
        else:
            bits = REQUANTISED_BITS
            values = mx.array(dequantised(raw, type))
            weight, scales, biases = mx.quantize(values, group_size=GROUP, bits=bits)
        scales, biases = scales.astype(dtype), biases.astype(dtype)
        mx.eval(weight, scales, biases)
        return Quantised(bits, weight, scales, biases)


def _joined(pieces: list[mx.array]) -> mx.array:
    whole = pieces[0] if len(pieces) == 1 else mx.concatenate(pieces)
    mx.eval(whole)
    return whole
