"""The sizes of the model in a GGUF file, and how it rotates: what its classes are made by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from openchat_local.finetune.architectures import Architecture, architecture_of, not_yet
from openchat_local.finetune.architectures.table import FEED_FORWARD, KEYS, QUERIES, WIDTH
from openchat_local.finetune.backends.model_file import TensorReader
from openchat_local.models.gguf import GGUFFile


@dataclass(frozen=True, slots=True)
class Rotation:
    """Rotary position embedding of the first 2 · `periods` numbers of a head.

    `periods` is (rotated / 2,) float64: the i-th pair turns once in 2π · periods[i] positions.
    What is rotated is multiplied by `scale` too.
    """

    periods: np.ndarray
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a model. `tied` says that the embedding is the output layer too.

    `windows` has a number for each block: how many positions it looks at, 0 for all. Blocks with
    a window rotate by `local_rotation`.
    """

    architecture: Architecture
    width: int
    blocks: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_width: int
    epsilon: float
    vocabulary: int
    tied: bool
    rotation: Rotation
    local_rotation: Rotation
    windows: tuple[int, ...]
    attention_cap: float = 0.0
    logit_cap: float = 0.0
    embedding_scale: float = 1.0
    logit_divisor: float = 1.0
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """(outputs, inputs) of a block's linear layers, by GGUF's names."""
        sizes = {
            WIDTH: self.width,
            QUERIES: self.heads * self.head_width,
            KEYS: self.kv_heads * self.head_width,
            FEED_FORWARD: self.feed_forward,
        }
        return {
            name: (sum(sizes[part] for part in linear.outputs), sizes[linear.inputs])
            for name, linear in self.architecture.linears.items()
        }

    @property
    def norms(self) -> dict[str, tuple[str, int]]:
        """The modules and lengths of a block's norms, by GGUF's names."""
        table = self.architecture
        wide = {name: (module, self.width) for name, module in table.norms.items()}
        return wide | {name: (module, self.head_width) for name, module in table.head_norms.items()}

    @property
    def config(self) -> dict[str, Any]:
        """What a config.json of the model has, as far as mlx-lm's and transformers' classes
        compute by it: rotations are of our own."""
        return {
            "hidden_size": self.width,
            "num_hidden_layers": self.blocks,
            "intermediate_size": self.feed_forward,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_width,
            "rms_norm_eps": self.epsilon,
            "vocab_size": self.vocabulary,
            "tie_word_embeddings": self.tied,
            **self.settings,
        }


def read_shape(reader: TensorReader) -> Shape:
    """The shape of the model in a file; takes its tables of rotations.

    Raises ModelFileError for a model that cannot be trained yet.
    """
    file = reader.file
    architecture = architecture_of(file)
    _check_names(reader, architecture)
    rotation = _rotation(reader, architecture)
    return Shape(
        architecture=architecture,
        width=file.embedding_length,
        blocks=file.block_count,
        feed_forward=reader.tensor("blk.0.ffn_down.weight").shape[0],
        heads=file.head_count,
        kv_heads=file.head_count_kv,
        head_width=file.key_length,
        epsilon=reader.number("attention.layer_norm_rms_epsilon"),
        vocabulary=reader.tensor("token_embd.weight").shape[-1],
        tied="output.weight" not in reader.left,
        rotation=rotation,
        local_rotation=_local_rotation(file, architecture, rotation),
        windows=architecture.windows(file) or (0,) * file.block_count,
        attention_cap=architecture.attention_cap(file),
        logit_cap=architecture.logit_cap(file),
        embedding_scale=architecture.embedding_scale(file),
        logit_divisor=architecture.logit_divisor(file),
        settings=architecture.settings(file),
    )


def _rotation(reader: TensorReader, architecture: Architecture) -> Rotation:
    """base^(2i/d), stretched as the file says: linearly, or by factors of its own."""
    file = reader.file
    dimensions = int(_positive(reader, "rope.dimension_count", file.key_length))
    if dimensions > file.key_length or dimensions % 2:
        raise reader.unusable(f"heads of {file.key_length}, of which {dimensions} are rotated")
    if dimensions != file.key_length and not architecture.partial_rotation:
        raise not_yet(file, "rotates only a part of each head")
    periods: np.ndarray = _positive(reader, "rope.freq_base", 10000.0) ** (
        np.arange(0, dimensions, 2) / dimensions
    )
    scale = 1.0
    scaling = file.metadata.get(f"{file.architecture}.rope.scaling.type", "linear")
    if scaling == "yarn":
        periods, scale = _yarn(reader, periods)
    elif scaling == "linear" or scaling in architecture.scalings:
        older = reader.number("rope.scale_linear", 1.0)  # in files of 2023
        periods *= reader.number("rope.scaling.factor", older) or 1.0  # 0 says that there is none
    elif scaling != "none":
        raise not_yet(file, f"stretches its context by RoPE scaling {scaling!r}")
    used = architecture.used_table(file)
    for name in architecture.rotation_tables:
        if name in reader.left:
            factors = reader.values(name, (dimensions // 2,))
            periods *= factors if name == used else 1.0
    if not (periods > 0).all() or not np.isfinite(periods).all():
        raise reader.unusable("rotations that are no numbers above 0")
    return Rotation(periods, scale * _positive(reader, "rope.scaling.attn_factor", 1.0))


def _yarn(reader: TensorReader, periods: np.ndarray) -> tuple[np.ndarray, float]:
    """Periods in which slow pairs are stretched and fast ones are not, and what rotated numbers
    are multiplied by (arXiv 2309.00071, as llama.cpp has it)."""
    context = reader.file.context_length
    factor = _positive(reader, "rope.scaling.factor", 1.0)
    original = _positive(reader, "rope.scaling.original_context_length", context)
    base, count = _positive(reader, "rope.freq_base", 10000.0), len(periods)

    def pair(turns: float) -> float:
        """The pair, counted from 0, that turns so often within the original context."""
        return float(count * math.log(original / (turns * 2 * math.pi)) / (math.log(base) or 1.0))

    low = max(math.floor(pair(_positive(reader, "rope.scaling.yarn_beta_fast", 32.0))), 0)
    high = math.ceil(pair(_positive(reader, "rope.scaling.yarn_beta_slow", 1.0)))
    high = min(high, 2 * count - 1)
    stretched = np.clip((np.arange(count) - low) / max(high - low, 0.001), 0, 1)
    speeds = (stretched / factor + 1 - stretched) / periods
    return 1 / speeds, 1 + 0.1 * math.log(factor) if factor > 1 else 1.0


def _positive(reader: TensorReader, name: str, default: float) -> float:
    """A number above 0 that the file says. Raises ModelFileError for another."""
    value = reader.number(name, default)
    if not 0 < value < math.inf:
        raise reader.unusable(f"no usable '{reader.file.architecture}.{name}'")
    return value


def _check_names(reader: TensorReader, architecture: Architecture) -> None:
    """Raise ModelFileError for a tensor that no model of the architecture has, before any is
    read."""
    inner = {f"{name}.weight" for name in (*architecture.norms, *architecture.head_norms)}
    for name, linear in architecture.linears.items():
        inner |= {f"{name}.weight", f"{name}.bias"} if linear.bias else {f"{name}.weight"}
    outer = {"token_embd.weight", "output_norm.weight"}
    if not architecture.always_tied:
        outer.add("output.weight")
    known = outer.union(architecture.rotation_tables) | {
        f"blk.{block}.{name}" for block in range(reader.file.block_count) for name in inner
    }
    if odd := [name for name in reader.left if name not in known]:
        raise reader.foreign(odd[0])


def _local_rotation(file: GGUFFile, architecture: Architecture, usual: Rotation) -> Rotation:
    """Of blocks that look no further than a window, which need no stretched rotations."""
    base = architecture.local_base(file)
    if base is None:
        return usual
    return Rotation(base ** (np.arange(0, file.key_length, 2) / file.key_length))
