"""Matrices that stay in their GGUF blocks, in torch on any device.

A Mistral-shaped 7B in Q4_K_M is 4.4 GB so, where bfloat16 is 14.5 GB and float32 29 GB. One
layer at a time is multiplied out (117 MB for the largest in bfloat16), in the forward pass
and again in the backward pass, which gives gradients to the inputs alone. Block layouts:
https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from openchat_local.finetune.backends.model_file import DENSE_TYPES, IQ4_VALUES, MXFP4_VALUES
from openchat_local.models.gguf import Tensor as GGUFTensor

# Values multiplied out at a time: what they need meanwhile is a few times as much.
_PIECE = 2**22


class Packed(nn.Module):
    """A frozen matrix (rows, columns) in GGUF's `type`, one of PACKED_TYPES, as (rows, bytes)
    uint8."""

    def __init__(self, raw: Tensor, type: str, columns: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.raw = nn.Buffer(raw, persistent=False)
        self.ggml_type, self.columns, self.dtype = type, columns, dtype

    def weight(self) -> Tensor:
        """(rows, columns), multiplied out."""
        return self.rows(self.raw)

    def rows(self, raw: Tensor) -> Tensor:
        """Some of its rows, multiplied out."""
        at_a_time = max(_PIECE // self.columns, 1)
        out = torch.empty(len(raw), self.columns, dtype=self.dtype, device=raw.device)
        for start in range(0, len(raw), at_a_time):
            piece = raw[start : start + at_a_time]
            out[start : start + len(piece)] = dequantise(piece, self.ggml_type)
        return out


class PackedLinear(Packed):
    """x · Wᵀ."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _Product.apply(x, self)  # type: ignore[no-untyped-call]
        return y


class PackedEmbedding(Packed):
    """Rows of W by number."""

    def forward(self, ids: Tensor) -> Tensor:
        return self.rows(self.raw[ids.ravel()]).view(*ids.shape, self.columns)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Packed) -> Tensor:
        ctx.packed = packed
        return x @ packed.weight().T

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient @ ctx.packed.weight(), None


def dequantise(raw: Tensor, type: str) -> Tensor:
    """(rows, bytes) uint8 in a GGUF `type`, one of PACKED_TYPES, as (rows, columns) float32."""
    block_bytes, values = _LAYOUTS[type]
    return values(raw.reshape(-1, block_bytes)).view(len(raw), -1)


def _half(blocks: Tensor, start: int) -> Tensor:
    """The float16 at byte `start` of each block, (n, 1) float32."""
    return blocks[:, start : start + 2].contiguous().view(torch.float16).float()


def _nibbles(data: Tensor) -> Tensor:
    """(..., n) bytes as (..., 2n): all the low nibbles, then the high ones."""
    return torch.cat([data & 15, data >> 4], -1)


def _shifted(data: Tensor, bits: range) -> Tensor:
    """(..., n) bytes as (..., len(bits), n), each shifted down by its number of bits."""
    shifts = torch.tensor(list(bits), dtype=torch.uint8, device=data.device)
    return data[..., None, :] >> shifts[:, None]


def _fifth_bits(data: Tensor) -> Tensor:
    """(n, 4) bytes of 32 bits as (n, 32) values of 0 or 16."""
    shifts = torch.arange(8, dtype=torch.uint8, device=data.device)
    return (data[..., None] >> shifts & 1).flatten(1) << 4


def _q4_0(blocks: Tensor) -> Tensor:
    return (_nibbles(blocks[:, 2:]).float() - 8) * _half(blocks, 0)


def _q4_1(blocks: Tensor) -> Tensor:
    return _nibbles(blocks[:, 4:]).float() * _half(blocks, 0) + _half(blocks, 2)


def _q5_0(blocks: Tensor) -> Tensor:
    values = _nibbles(blocks[:, 6:]) | _fifth_bits(blocks[:, 2:6])
    return (values.float() - 16) * _half(blocks, 0)


def _q5_1(blocks: Tensor) -> Tensor:
    values = _nibbles(blocks[:, 8:]) | _fifth_bits(blocks[:, 4:8])
    return values.float() * _half(blocks, 0) + _half(blocks, 2)


def _q8_0(blocks: Tensor) -> Tensor:
    return blocks[:, 2:].view(torch.int8).float() * _half(blocks, 0)


def _q4_k(blocks: Tensor) -> Tensor:
    values = _nibbles(blocks[:, 16:].reshape(-1, 4, 32)).view(-1, 8, 32)
    return _scaled_k(values, blocks)


def _q5_k(blocks: Tensor) -> Tensor:
    values = _nibbles(blocks[:, 48:].reshape(-1, 4, 32)).view(-1, 8, 32)
    fifth = _shifted(blocks[:, 16:48], range(8)) & 1
    return _scaled_k(values | fifth << 4, blocks)


def _scaled_k(values: Tensor, blocks: Tensor) -> Tensor:
    """d · sc · q − dmin · m of eight groups of 32; sc and m are 6 bits, packed in 12 bytes."""
    first, second, third = (blocks[:, start : start + 4] for start in (4, 8, 12))
    sc = torch.cat([first & 63, third & 15 | first >> 6 << 4], -1)
    m = torch.cat([second & 63, third >> 4 | second >> 6 << 4], -1)
    scale, offset = _half(blocks, 0) * sc, _half(blocks, 2) * m
    return values.float() * scale[..., None] - offset[..., None]


def _q6_k(blocks: Tensor) -> Tensor:
    # In each half: 64 bytes of low nibbles, then the high ones; 32 bytes of two more bits.
    low = _nibbles(blocks[:, :128].reshape(-1, 2, 64)).view(-1, 2, 4, 32)
    high = _shifted(blocks[:, 128:192].reshape(-1, 2, 32), range(0, 8, 2)) & 3
    values = (low | high << 4).float() - 32
    scales = _half(blocks, 208) * blocks[:, 192:208].contiguous().view(torch.int8)
    return values.view(-1, 16, 16) * scales[..., None]


def _q3_k(blocks: Tensor) -> Tensor:
    low = _shifted(blocks[:, 32:96].reshape(-1, 2, 32), range(0, 8, 2)) & 3
    high = _shifted(blocks[:, :32], range(8)) & 1
    values = (low.reshape(-1, 8, 32) | high << 2).float() - 4
    sixteen = _nibbles(blocks[:, 96:104])
    more = (_shifted(blocks[:, 104:108], range(0, 8, 2)) & 3).flatten(1)
    scales = _half(blocks, 108) * ((sixteen | more << 4).float() - 32)
    return values.view(-1, 16, 16) * scales[..., None]


def _q2_k(blocks: Tensor) -> Tensor:
    values = _shifted(blocks[:, 16:80].reshape(-1, 2, 32), range(0, 8, 2)) & 3
    scale, offset = (
        _half(blocks, 80) * (blocks[:, :16] & 15),
        _half(blocks, 82) * (blocks[:, :16] >> 4),
    )
    return values.reshape(-1, 16, 16).float() * scale[..., None] - offset[..., None]


def _looked_up(book: tuple[int, ...], codes: Tensor) -> Tensor:
    return torch.tensor(book, dtype=torch.float32, device=codes.device)[codes.int()]


def _iq4_nl(blocks: Tensor) -> Tensor:
    return _looked_up(IQ4_VALUES, _nibbles(blocks[:, 2:])) * _half(blocks, 0)


def _iq4_xs(blocks: Tensor) -> Tensor:
    # Of the eight groups' 6 bits, two are in the 16 bits after d, four in the 4 bytes after.
    high = _shifted(blocks[:, 2:4, None], range(0, 8, 2)).flatten(1) & 3
    low = _shifted(blocks[:, 4:8, None], range(0, 8, 4)).flatten(1) & 15
    scale = _half(blocks, 0) * ((low | high << 4).float() - 32)
    codes = _nibbles(blocks[:, 8:].reshape(-1, 8, 16))
    return _looked_up(IQ4_VALUES, codes) * scale[..., None]


def _mxfp4(blocks: Tensor) -> Tensor:
    # The code book has halves: the numbers here are twice its own, the scale is half of it.
    # It is a power of two: the exponent of a float32, which lies above 23 other bits.
    scale = ((blocks[:, :1].int() - 1).clamp(min=0) << 23).view(torch.float32)
    return _looked_up(MXFP4_VALUES, _nibbles(blocks[:, 1:])) * scale


# Type: bytes of a block, and what makes (n, bytes) blocks into values.
_LAYOUTS: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "Q4_0": (18, _q4_0),
    "Q4_1": (20, _q4_1),
    "Q5_0": (22, _q5_0),
    "Q5_1": (24, _q5_1),
    "Q8_0": (34, _q8_0),
    "Q2_K": (84, _q2_k),
    "Q3_K": (110, _q3_k),
    "Q4_K": (144, _q4_k),
    "Q5_K": (176, _q5_k),
    "Q6_K": (210, _q6_k),
    "IQ4_NL": (18, _iq4_nl),
    "IQ4_XS": (136, _iq4_xs),
    "MXFP4": (17, _mxfp4),
}
PACKED_TYPES = frozenset(_LAYOUTS)
# Code books of vectors become the finest type that has blocks of 32.
REQUANTISED_BITS = 8.5  # Q8_0: 34 bytes for 32 values


def held_bits(tensor: GGUFTensor, value_bytes: int) -> float:
    """The bits that a value of a tensor takes here, dense ones being of `value_bytes`."""
    if tensor.type in DENSE_TYPES:
        return 8 * value_bytes
    return tensor.bits_per_value if tensor.type in PACKED_TYPES else REQUANTISED_BITS
