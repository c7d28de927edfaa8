"""Models of any size with random weights: speed and memory do not depend on the values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openchat_local.models.gguf import read_gguf
from openchat_local.models.gguf_header import Tensor
from openchat_local.models.gguf_writer import copied_fields, encoded, tensor, write_gguf_file

_BLOCKS = 2**14  # written at once
_Q4_K_BYTES = 144  # of a block of 256 values: d, dmin (float16), 12 of scales, 128 of quants


@dataclass(frozen=True, slots=True)
class Shape:
    """A llama."""

    name: str
    blocks: int
    width: int
    feed_forward: int
    heads: int
    kv_heads: int
    context: int


TINYLLAMA = Shape("1.1B shape", 22, 2048, 5632, 32, 4, 2048)
MISTRAL_7B = Shape("7B shape", 32, 4096, 14336, 32, 8, 8192)


def write_random_model(path: Path, shape: Shape, vocabulary: Path) -> Path:
    """Write a model of this shape in Q4_K, with the vocabulary of another GGUF file."""
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
    yield tensor("output.weight", (width, vocabulary), "Q4_K")
    for block in range(shape.blocks):
        for norm in ("attn_norm", "ffn_norm"):
            yield tensor(f"blk.{block}.{norm}.weight", (width,), "F32")
        for name, size in linears.items():
            yield tensor(f"blk.{block}.{name}.weight", size, "Q4_K")


def _data(item: Tensor, random: np.random.Generator) -> Iterator[bytes]:
    if item.type == "F32":
        yield np.ones(item.byte_size // 4, np.float32).tobytes()
        return
    left = item.byte_size // _Q4_K_BYTES
    while left:
        count = min(left, _BLOCKS)
        blocks = random.integers(0, 256, (count, _Q4_K_BYTES), np.uint8)
        blocks[:, :4] = np.array([1e-4, 8e-4], np.float16).view(np.uint8)  # values around 0
        yield blocks.tobytes()
        left -= count
