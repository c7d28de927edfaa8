"""Quantisations: what a file is in, what a name says, and about how large a model gets.

The mixtures are those of llama.cpp's quantiser (`llama_tensor_get_type` in
https://github.com/ggml-org/llama.cpp/blob/master/src/llama-quant.cpp).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

from openchat_local.models.gguf import GGUFFile
from openchat_local.models.gguf.header import GGML_TYPES

# llama.cpp's LLAMA_FTYPE numbers, as `general.file_type` holds them; a test compares.
FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K",
    11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S",
    17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS",
    23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0",
    38: "MXFP4_MOE", 39: "NVFP4", 40: "Q1_0", 41: "Q2_0",
}  # fmt: skip
_GUESSED = 1024  # a flag beside the number: the quantiser was not told

_IN_NAME = re.compile(
    r"(?<![A-Za-z0-9])(IQ4_NL_[48]_[48]|Q4_0_[48]_[48]"
    r"|IQ[1-4]_(?:XXS|XS|NL|S|M)|Q[1-8]_(?:K(?:_(?:XL|L|M|S))?|[01])"
    r"|TQ[12]_0|BF16|F16|FP16|F32|FP32|MXFP4(?:_MOE)?)(?![A-Za-z0-9])",
    re.IGNORECASE,
)


def quantisation_in(name: str) -> str | None:
    """The quantisation that a file's name tells, the last if there are several: "Q4_K_M" of
    "openchat-3.5-0106.Q4_K_M.gguf"; None if it tells none."""
    found = _IN_NAME.findall(PurePosixPath(name).name)
    return found[-1].upper().replace("FP", "F", 1) if found else None


def quantisation_of(file: GGUFFile) -> str:
    """What a model file is in: what it says itself, else the type of most of its bytes."""
    number = file.metadata.get("general.file_type")
    if isinstance(number, int) and (name := FILE_TYPES.get(number & ~_GUESSED)):
        return name
    sizes: Counter[str] = Counter()
    for tensor in file.tensors:
        sizes[tensor.type] += tensor.byte_size
    return sizes.most_common(1)[0][0] if sizes else "empty"


@dataclass(frozen=True, slots=True)
class WeightShape:
    """A llama's dimensions. `tied`: the output matrix is the embedding."""

    blocks: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    feed_forward: int
    tied: bool = False


class _Mixture(NamedTuple):
    """Types of the matrices: most of them; `attn_v` and `ffn_down` of the blocks that
    `use_more_bits` picks, about half; these elsewhere; `attn_output`."""

    most: str
    picked: str
    values: str
    down: str
    joined: str


_MIXTURES = {
    "Q8_0": _Mixture("Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0"),
    "Q6_K": _Mixture("Q6_K", "Q6_K", "Q6_K", "Q6_K", "Q6_K"),
    "Q5_K_M": _Mixture("Q5_K", "Q6_K", "Q5_K", "Q5_K", "Q5_K"),
    "Q5_K_S": _Mixture("Q5_K", "Q5_K", "Q5_K", "Q5_K", "Q5_K"),
    "Q4_K_M": _Mixture("Q4_K", "Q6_K", "Q4_K", "Q4_K", "Q4_K"),
    "Q4_K_S": _Mixture("Q4_K", "Q4_K", "Q4_K", "Q4_K", "Q4_K"),
    "Q3_K_M": _Mixture("Q3_K", "Q4_K", "Q4_K", "Q4_K", "Q4_K"),
    "Q2_K": _Mixture("Q2_K", "Q3_K", "Q4_K", "Q3_K", "Q3_K"),
}
ESTIMATED = tuple(_MIXTURES)  # from the best to the smallest
_BITS = {name: 8 * size / block for name, block, size in GGML_TYPES.values()}
# What takes the place of types whose blocks are of 256 values where rows are no multiple of that.
_IN_SHORT_BLOCKS = {
    "Q2_K": "IQ4_NL", "Q3_K": "IQ4_NL", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0",
}  # fmt: skip


def estimated_bytes(shape: WeightShape, quantisation: str) -> int:
    """About how large the weights are in one of `ESTIMATED`, in bytes: within 4 % of what
    llama.cpp's quantiser writes."""
    mixture = _MIXTURES[quantisation]
    kv_width = shape.kv_heads * shape.head_width
    values = shape.width * kv_width
    down = shape.width * shape.feed_forward
    square = shape.width * shape.heads * shape.head_width
    rest = square + values + 2 * down
    width, joined, hidden = shape.width, shape.heads * shape.head_width, shape.feed_forward
    picked = sum(_gets_more_bits(block, shape.blocks) for block in range(shape.blocks))
    others = shape.blocks - picked
    embedding = shape.width * shape.vocabulary
    output = "Q8_0" if quantisation == "Q8_0" else "Q6_K"
    outer = _bits(output, width) + (0 if shape.tied else _bits(mixture.most, width))
    bits = (
        shape.blocks * (rest * _bits(mixture.most, width) + square * _bits(mixture.joined, joined))
        + picked * (values * _bits(mixture.picked, width) + down * _bits(mixture.picked, hidden))
        + others * (values * _bits(mixture.values, width) + down * _bits(mixture.down, hidden))
        + embedding * outer
        + (2 * shape.blocks + 1) * width * _BITS["F32"]
    )
    return round(bits / 8)


def _bits(type_name: str, columns: int) -> float:
    """The bits that a value takes in rows of so many."""
    return _BITS[_IN_SHORT_BLOCKS.get(type_name, type_name) if columns % 256 else type_name]


def _gets_more_bits(block: int, blocks: int) -> bool:
    return block < blocks // 8 or block >= 7 * blocks // 8 or (block - blocks // 8) % 3 == 2
