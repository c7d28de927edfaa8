"""GGUF's quantised blocks as MLX's affine ones: value = scale · q + bias, 32 to a group.

Exact with float32 scales for every type here, since scale · q needs fewer bits than
float32 has. MLX reads q as a little-endian stream of bits over 32-bit words. Block layouts:
https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from openchat_local.finetune.backends.model_file import DENSE_TYPES, IQ4_VALUES, MXFP4_VALUES

GROUP = 32


@dataclass(frozen=True, slots=True)
class Packed:
    """A matrix of `rows` × `columns`: `words` (rows, columns · bits / 32) uint32, and
    `scales` and `biases` (rows, columns / 32) float32."""

    bits: int
    words: np.ndarray
    scales: np.ndarray
    biases: np.ndarray


def repack(raw: np.ndarray, type: str) -> Packed:
    """`raw` is (rows, bytes) uint8 in GGUF's `type`, one of EXACT_TYPES."""
    bits, block_bytes, split = _LAYOUTS[type]
    blocks = raw.reshape(-1, block_bytes)
    values, scales, biases = split(blocks)
    rows = len(raw)
    return Packed(
        bits,
        _pack(values, bits).reshape(rows, -1),
        np.ascontiguousarray(scales, np.float32).reshape(rows, -1),
        np.ascontiguousarray(biases, np.float32).reshape(rows, -1),
    )


def _pack(values: np.ndarray, bits: int) -> np.ndarray:
    """(..., 32) uint8 values below 2^bits as (..., bits) words."""
    if bits == 8:
        data = np.ascontiguousarray(values)
    elif bits == 4:
        data = values[..., 0::2] | values[..., 1::2] << 4
    else:
        # Eight values take `bits` whole bytes.
        stream = np.zeros((*values.shape[:-1], 4), np.uint64)
        for index in range(8):
            stream |= values[..., index::8].astype(np.uint64) << np.uint64(bits * index)
        octets = stream.astype("<u8").view(np.uint8).reshape(*stream.shape, 8)
        data = np.ascontiguousarray(octets[..., :bits]).reshape(*values.shape[:-1], 4 * bits)
    return data.view("<u4").astype(np.uint32, copy=False)


# What a layout's function gives for n blocks: values (n, groups, 32) uint8, and scales and
# biases (n, groups) float32.
_Split = tuple[np.ndarray, np.ndarray, np.ndarray]


def _half(blocks: np.ndarray, start: int) -> np.ndarray:
    """The float16 at byte `start` of each block, (n, 1) float32."""
    return blocks[:, start : start + 2].copy().view("<f2").astype(np.float32)


def _nibbles(data: np.ndarray) -> np.ndarray:
    """(..., n) bytes as (..., 2n) values: all the low nibbles, then the high ones."""
    return np.concatenate([data & 15, data >> 4], axis=-1)


def _fifth_bits(data: np.ndarray) -> np.ndarray:
    """(n, 4) bytes of 32 bits as (n, 32) values of 0 or 16."""
    return np.unpackbits(data, axis=-1, bitorder="little") << 4


def _q4_0(blocks: np.ndarray) -> _Split:
    d = _half(blocks, 0)
    return _nibbles(blocks[:, 2:])[:, None], d, -8 * d


def _q4_1(blocks: np.ndarray) -> _Split:
    return _nibbles(blocks[:, 4:])[:, None], _half(blocks, 0), _half(blocks, 2)


def _q5_0(blocks: np.ndarray) -> _Split:
    d = _half(blocks, 0)
    values = _nibbles(blocks[:, 6:]) | _fifth_bits(blocks[:, 2:6])
    return values[:, None], d, -16 * d


def _q5_1(blocks: np.ndarray) -> _Split:
    values = _nibbles(blocks[:, 8:]) | _fifth_bits(blocks[:, 4:8])
    return values[:, None], _half(blocks, 0), _half(blocks, 2)


def _q8_0(blocks: np.ndarray) -> _Split:
    d = _half(blocks, 0)
    return (blocks[:, 2:] ^ 0x80)[:, None], d, -128 * d  # int8 + 128 as uint8


def _q4_k(blocks: np.ndarray) -> _Split:
    values = _nibbles(blocks[:, 16:].reshape(-1, 4, 32)).reshape(-1, 8, GROUP)
    return values, *_k_scales(blocks)


def _q5_k(blocks: np.ndarray) -> _Split:
    values = _nibbles(blocks[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, GROUP)
    # Bit g of byte i is the fifth bit of value i in group g.
    fifth = blocks[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & 1
    return values | fifth << 4, *_k_scales(blocks)


def _k_scales(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """d · sc and −dmin · m of the eight groups; sc and m are 6 bits, packed in 12 bytes."""
    first, second, third = (blocks[:, start : start + 4] for start in (4, 8, 12))
    sc = np.concatenate([first & 63, third & 15 | first >> 6 << 4], axis=-1)
    m = np.concatenate([second & 63, third >> 4 | second >> 6 << 4], axis=-1)
    return _half(blocks, 0) * sc, -_half(blocks, 2) * m


def _iq4_nl(blocks: np.ndarray) -> _Split:
    d = _half(blocks, 0)
    return _IQ4_BOOK[_nibbles(blocks[:, 2:])][:, None], d, -128 * d


def _iq4_xs(blocks: np.ndarray) -> _Split:
    values = _IQ4_BOOK[_nibbles(blocks[:, 8:].reshape(-1, 8, 16))]
    # Of the eight groups' 6 bits, two are in the 16 bits after d, four in the 4 bytes after.
    high = blocks[:, 2:4].copy().view("<u2") >> np.arange(0, 16, 2, dtype=np.uint16) & 3
    low = np.stack([blocks[:, 4:8] & 15, blocks[:, 4:8] >> 4], axis=-1).reshape(-1, 8)
    scales = _half(blocks, 0) * ((low | high << 4).astype(np.float32) - 32)
    return values, scales, -128 * scales


def _mxfp4(blocks: np.ndarray) -> _Split:
    # The code book has halves: the numbers below are twice its own, d is half the scale.
    d = np.ldexp(np.float32(1), blocks[:, :1].astype(np.int32) - 128)
    return _MXFP4_BOOK[_nibbles(blocks[:, 1:])][:, None], d, -16 * d


# The 16 values of a 4-bit code, raised so that none is negative: whole numbers, hence exact in
# an affine form of 8 and of 5 bits.
_IQ4_BOOK = np.array(IQ4_VALUES, np.int16).astype(np.uint8) ^ 0x80
_MXFP4_BOOK = (np.array(MXFP4_VALUES) + 16).astype(np.uint8)

# Type: bits, bytes of a block, and what takes blocks apart.
_LAYOUTS: dict[str, tuple[int, int, Callable[[np.ndarray], _Split]]] = {
    "Q4_0": (4, 18, _q4_0),
    "Q4_1": (4, 20, _q4_1),
    "Q5_0": (5, 22, _q5_0),
    "Q5_1": (5, 24, _q5_1),
    "Q8_0": (8, 34, _q8_0),
    "Q4_K": (4, 144, _q4_k),
    "Q5_K": (5, 176, _q5_k),
    "IQ4_NL": (8, 18, _iq4_nl),
    "IQ4_XS": (8, 136, _iq4_xs),
    "MXFP4": (5, 17, _mxfp4),
}
EXACT_TYPES = frozenset(_LAYOUTS)
# What MLX has no layout for (groups of 16, or code books of vectors) becomes 8 bit.
REQUANTISED_BITS = 8


def held_bits(type: str, value_bytes: int) -> float:
    """The bits that a value of a matrix in GGUF's `type` takes in MLX: its own, and its share of
    a scale and a bias of `value_bytes` each for every 32."""
    if type in DENSE_TYPES:
        return 8 * value_bytes
    bits = _LAYOUTS[type][0] if type in EXACT_TYPES else REQUANTISED_BITS
    return bits + 2 * 8 * value_bytes / GROUP
