"""Models of any size with random weights: speed and memory do not depend on the values."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openchat_local.models.gguf import read_gguf
from openchat_local.models.gguf.header import Tensor
from openchat_local.models.gguf.writer import copied_fields, encoded, tensor, write_gguf_file

_BLOCKS = 2**14  # written at once
_BLOCK_BYTES = {"Q4_K": 144, "Q6_K": 210}  # of 256 values
TESTS = Path(__file__).parents[1] / "tests"


@dataclass(frozen=True, slots=True)
class Shape:
    """A llama. `mixed` has the types of llama.cpp's Q4_K_M, else all is Q4_K."""

    name: str
    blocks: int
    width: int
    feed_forward: int
    heads: int
    kv_heads: int
    context: int
    mixed: bool = False


TINYLLAMA = Shape("1.1B shape", 22, 2048, 5632, 32, 4, 2048)
OPENCHAT_7B = Shape("7B shape, Q4_K_M", 32, 4096, 14336, 32, 8, 8192, mixed=True)


def write_random_model(path: Path, shape: Shape, vocabulary: Path) -> Path:
    """Write a model of this shape, with the vocabulary of another GGUF file."""
    source = read_gguf(vocabulary)
    values = {
        "general.name": shape.name,
        "llama.block_count": shape.blocks,
        "llama.context_length": shape.context,
        "llama.embedding_length": shape.width,
        "llama.feed_forward_length": shape.feed_forward,
        "llama.attention.head_count": shape.heads,
        "llama.attention.head_count_kv": shape.kv_heads,
        "llama.rope.dimension_count": shape.width // shape.heads,
    }
    dropped = ("llama.attention.key_length", "llama.attention.value_length")
    fields = {key: value for key, value in copied_fields(source).items() if key not in dropped}
    fields |= {key: encoded(value) for key, value in values.items()}
    tensors = list(_tensors(shape, source.vocab_size))
    random = np.random.default_rng(0)
    with path.open("wb") as out:
        write_gguf_file(out, fields, tensors, (_data(item, random) for item in tensors))
    return path


def write_openchat_vocabulary(path: Path) -> Path:
    """OpenChat 3.5's 32,002 tokens as a GGUF file without weights."""
    sys.path.insert(0, str(TESTS))
    from support.openchat_gguf import openchat_vocabulary, write_model

    return write_model(path, openchat_vocabulary(), weights=False)


def _tensors(shape: Shape, vocabulary: int) -> Iterator[Tensor]:
    width, hidden = shape.width, shape.feed_forward
    keys = width // shape.heads * shape.kv_heads
    linears = {
        "attn_q": (width, width), "attn_k": (width, keys), "attn_v": (width, keys),
        "attn_output": (width, width), "ffn_gate": (width, hidden), "ffn_up": (width, hidden),
        "ffn_down": (hidden, width),
    }  # fmt: skip
    yield tensor("token_embd.weight", (width, vocabulary), "Q4_K")
    yield tensor("output_norm.weight", (width,), "F32")
    yield tensor("output.weight", (width, vocabulary), "Q6_K" if shape.mixed else "Q4_K")
    for block in range(shape.blocks):
        for norm in ("attn_norm", "ffn_norm"):
            yield tensor(f"blk.{block}.{norm}.weight", (width,), "F32")
        for name, size in linears.items():
            finer = name in ("attn_v", "ffn_down") and _more_bits(block, shape.blocks)
            type_name = "Q6_K" if shape.mixed and finer else "Q4_K"
            yield tensor(f"blk.{block}.{name}.weight", size, type_name)


def _more_bits(block: int, blocks: int) -> bool:
    """Whether Q4_K_M spends more on this block: the first and last eighth, every third between
    (llama.cpp's `use_more_bits`)."""
    eighth = blocks // 8
    return block < eighth or block >= 7 * blocks // 8 or (block - eighth) % 3 == 2


def _data(item: Tensor, random: np.random.Generator) -> Iterator[bytes]:
    if item.type == "F32":
        yield np.ones(item.byte_size // 4, np.float32).tobytes()
        return
    size = _BLOCK_BYTES[item.type]
    left = item.byte_size // size
    while left:
        count = min(left, _BLOCKS)
        blocks = random.integers(0, 256, (count, size), np.uint8)
        # The float16 scales, so that values lie around 0: d and dmin come first in Q4_K, d
        # comes last in Q6_K.
        if item.type == "Q4_K":
            blocks[:, :4] = np.array([1e-4, 8e-4], np.float16).view(np.uint8)
        else:
            blocks[:, -2:] = np.array([1e-5], np.float16).view(np.uint8)
        yield blocks.tobytes()
        left -= count
