"""`finetune` from end to end on shapes of other families than Llama, with random weights.

Each is written as Q8_0 with the starter's vocabulary, filled up to the family's own size. The
command trains an adapter for a few steps on generated conversations, on each backend that is
installed (MLX on Linux takes hours without OpenBLAS, and is left out then), and `ask` writes with
it. `BENCH_FAMILIES=tiny` tries all of it out on small shapes.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bench.finetune import generated_data
from bench.report import table
from bench.setting import program, rounds, run, starter, temporary_home
from openchat_local.finetune.architectures import ARCHITECTURES
from openchat_local.finetune.architectures.table import FEED_FORWARD, KEYS, QUERIES, WIDTH
from openchat_local.models.gguf import read_gguf
from openchat_local.models.gguf.header import Tensor
from openchat_local.models.gguf.writer import copied_fields, encoded, tensor, write_gguf_file
from openchat_local.models.units import memory_in_words

CONVERSATIONS, STEPS, TOKENS_PER_STEP, MAX_LENGTH = 48, 4, 1024, 512
_ROWS = 2**14  # of a block each, written at once
_UNUSED = 5  # GGUF's type of a token that no text becomes


@dataclass(frozen=True, slots=True)
class Family:
    """A model's sizes, and what its metadata say beside them."""

    name: str
    architecture: str
    blocks: int
    width: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    settings: Mapping[str, Any] = field(default_factory=dict)

    def tiny(self) -> Family:
        """The same, as small as it gets."""
        return replace(
            self, blocks=2, width=64, feed_forward=96, heads=4, kv_heads=2,
            head_width=32, vocabulary=49_408,
        )  # fmt: skip


QWEN3 = {"rope.freq_base": 1e6}
GEMMA_3 = {"rope.freq_base": 1e6, "attention.sliding_window": 512}
FAMILIES = (
    Family("Qwen3 0.6B", "qwen3", 28, 1024, 3072, 16, 8, 128, 151_936, QWEN3),
    Family("Gemma 3 1B", "gemma3", 26, 1152, 6912, 4, 1, 256, 262_144, GEMMA_3),
)


def main() -> None:
    small = os.environ.get("BENCH_FAMILIES") == "tiny"
    with tempfile.TemporaryDirectory(prefix="bench-families-") as folder:
        data = generated_data(Path(folder) / "generated.jsonl")
        some = data.read_text().splitlines(keepends=True)[:CONVERSATIONS]
        data.write_text("".join(some))
        for family in FAMILIES:
            shape = family.tiny() if small else family
            model = write_family(Path(folder) / f"{family.architecture}.gguf", shape)
            size = memory_in_words(model.stat().st_size)
            print(f"{shape.name}: {shape.vocabulary:,} tokens, {size} as Q8_0\n")
            _train(model, data)
            model.unlink()


def _train(model: Path, data: Path) -> None:
    backends = _backends()
    speeds: dict[str, list[float]] = {name: [] for name in backends}
    memory: dict[str, list[float]] = {name: [] for name in backends}
    for _ in range(rounds(1)):
        for backend, speed in speeds.items():
            with temporary_home():
                name = f"bench-{backend}"
                started = time.perf_counter()
                options = {
                    "--model": model, "--backend": backend, "--name": name, "--steps": STEPS,
                    "--tokens-per-step": TOKENS_PER_STEP, "--max-length": MAX_LENGTH,
                    "--out": data.with_name(name),
                }  # fmt: skip
                flags = [str(part) for option in options.items() for part in option]
                run(*program("finetune", str(data), "--replace", *flags))
                seconds = time.perf_counter() - started
                measured = _steps(data.with_name(name) / "metrics.jsonl")
                speed.append(
                    sum(s["tokens"] for s in measured) / sum(s["seconds"] for s in measured)
                )
                memory[backend].append(measured[-1]["peak_memory"] / 1024**3)
                question = ("--adapter", name, "--max-tokens", "8", "Who are you?")
                answer = run(*program("ask", "--model", str(model), *question)).stdout
            print(f"- {backend}: {seconds:.0f} s from the command to the adapter; {answer!r}")
    print()
    print(table(speeds, "tokens/s", against=backends[0]))
    print()
    print(table(memory, "GiB at the peak", against=backends[0]))
    print()


def _backends() -> list[str]:
    """Those that can be measured here, PyTorch first."""
    found = [name for name in ("torch", "mlx") if find_spec(name)]
    if "mlx" in found and sys.platform == "linux":
        from openchat_local.finetune.backends.mlx import OPENBLAS

        return found if OPENBLAS else [name for name in found if name != "mlx"]
    return found


def _steps(metrics: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, metrics.read_text().splitlines())
    return [line for line in lines if "peak_memory" in line]


def write_family(path: Path, family: Family) -> Path:
    """Write a model of this shape as Q8_0."""
    source = read_gguf(starter())
    names = list(source.metadata["tokenizer.ggml.tokens"])
    kinds = list(source.metadata["tokenizer.ggml.token_type"])
    more = range(family.vocabulary - len(names))
    settings = {
        "block_count": family.blocks,
        "context_length": 4096,
        "embedding_length": family.width,
        "feed_forward_length": family.feed_forward,
        "attention.head_count": family.heads,
        "attention.head_count_kv": family.kv_heads,
        "attention.key_length": family.head_width,
        "attention.value_length": family.head_width,
        "attention.layer_norm_rms_epsilon": 1e-6,
        **family.settings,
    }
    fields = {
        "general.architecture": encoded(family.architecture),
        "general.name": encoded(family.name),
        **{f"{family.architecture}.{key}": encoded(value) for key, value in settings.items()},
        **{key: value for key, value in copied_fields(source).items() if key.startswith("token")},
        "tokenizer.ggml.tokens": encoded([*names, *(f"<|unused_{i}|>" for i in more)]),
        "tokenizer.ggml.token_type": _int32([*kinds, *(_UNUSED for _ in more)]),
    }
    tensors = list(_tensors(family))
    random = np.random.default_rng(0)
    with path.open("wb") as out:
        write_gguf_file(out, fields, tensors, (_data(item, random) for item in tensors))
    return path


def _int32(numbers: list[int]) -> bytes:
    """A list of int32 as a metadata value."""
    return struct.pack(f"<IIQ{len(numbers)}i", 9, 5, len(numbers), *numbers)


def _tensors(family: Family) -> Iterator[Tensor]:
    table = ARCHITECTURES[family.architecture]
    sizes = {
        WIDTH: family.width,
        QUERIES: family.heads * family.head_width,
        KEYS: family.kv_heads * family.head_width,
        FEED_FORWARD: family.feed_forward,
    }
    yield tensor("token_embd.weight", (family.width, family.vocabulary), "Q8_0")
    yield tensor("output_norm.weight", (family.width,), "F32")
    for block in range(family.blocks):
        for name in table.norms:
            yield tensor(f"blk.{block}.{name}.weight", (family.width,), "F32")
        for name in table.head_norms:
            yield tensor(f"blk.{block}.{name}.weight", (family.head_width,), "F32")
        for name, linear in table.linears.items():
            outputs = sum(sizes[part] for part in linear.outputs)
            shape = (sizes[linear.inputs], outputs)
            yield tensor(f"blk.{block}.{name}.weight", shape, "Q8_0")
            if linear.bias:
                yield tensor(f"blk.{block}.{name}.bias", (outputs,), "F32")


def _data(item: Tensor, random: np.random.Generator) -> Iterator[bytes]:
    if item.type == "F32":
        yield np.ones(item.byte_size // 4, np.float32).tobytes()
        return
    left = item.byte_size // 34
    while left:
        count = min(left, _ROWS)
        blocks = random.integers(0, 256, (count, 34), np.uint8)
        blocks[:, :2] = np.array([5e-4], np.float16).view(np.uint8)  # weights within ±0.06
        yield blocks.tobytes()
        left -= count
