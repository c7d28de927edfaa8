"""A GGUF model file as every backend reads it: its shape, and the rows of its tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from openchat_local.finetune.architectures import Architecture, architecture_of, not_yet, number
from openchat_local.finetune.architectures.table import FEED_FORWARD, KEYS, QUERIES, WIDTH
from openchat_local.models.errors import ModelFileError
from openchat_local.models.gguf import GGUFFile, Tensor
from openchat_local.models.gguf.dequantise import dequantise

DENSE_TYPES = frozenset({"F32", "F16", "BF16"})
# What the 16 codes of a nibble stand for: IQ4_NL's and IQ4_XS's, and twice MXFP4's.
IQ4_VALUES = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
MXFP4_VALUES = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)

# As float32, read at a time.
_PIECE_BYTES = 128 * 2**20


class Weights(Protocol):
    """Where the tensors of a model lie, by GGUF's names and in its row order. `description`
    says so to a person; `norms_shifted`, whether norms have their architecture's offset, as a GGUF
    file's do."""

    tensors: Sequence[Tensor]
    description: str
    norms_shifted: bool

    def rows(self, tensor: Tensor) -> np.ndarray:
        """The tensor's rows, (rows, bytes) uint8."""


class GGUFWeights(Weights):
    """The tensors in a GGUF file itself."""

    norms_shifted = True

    def __init__(self, file: GGUFFile) -> None:
        self.tensors = file.tensors
        self.description = str(file.path)
        paths = file.parts or (file.path,)
        self._bytes = [np.memmap(path, np.uint8, mode="r") for path in paths]

    def rows(self, tensor: Tensor) -> np.ndarray:
        raw = self._bytes[tensor.part][tensor.offset : tensor.offset + tensor.byte_size]
        size = int(np.prod(tensor.shape, dtype=np.int64))
        return raw.reshape(-1, tensor.byte_size * tensor.shape[0] // size)


class TensorReader:
    """A file's metadata and the tensors of `weights`, which are the file's own unless others
    are given; `left` are those that nobody has asked for yet.

    Every method raises ModelFileError where the file is not what its header promises.
    """

    def __init__(self, file: GGUFFile, weights: Weights | None = None) -> None:
        self.file = file
        self._weights = weights or GGUFWeights(file)
        self.left = {tensor.name: tensor for tensor in self._weights.tensors}

    @property
    def norm_offset(self) -> float:
        """What the norms have more than the classes' weights."""
        return architecture_of(self.file).norm_offset if self._weights.norms_shifted else 0.0

    def number(self, name: str, default: float | None = None) -> float:
        """A number that the file says under its architecture's key `name`."""
        return number(self.file, name, default)

    def tensor(self, name: str) -> Tensor:
        """A tensor that has not been taken yet."""
        if name not in self.left:
            raise self.unusable(f"no tensor {name!r}")
        return self.left[name]

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """A tensor of `shape`, outermost first; nobody can ask for it again."""
        tensor = self.tensor(name)
        if tensor.shape != tuple(reversed(shape)):
            raise self.unusable(f"a tensor {name!r} of an unexpected shape {tensor.shape}")
        return self.left.pop(name)

    def pieces(self, tensor: Tensor) -> Iterator[np.ndarray]:
        """Its rows as (rows, bytes) uint8, some at a time."""
        rows = self._weights.rows(tensor)
        count = max(_PIECE_BYTES // (4 * tensor.shape[0]), 1)
        for start in range(0, len(rows), count):
            yield rows[start : start + count]

    def values(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Take a tensor, dequantised to float32."""
        tensor = self.take(name, shape)
        pieces = [dequantised(raw, tensor.type) for raw in self.pieces(tensor)]
        whole: np.ndarray = np.concatenate(pieces).reshape(shape)
        return whole

    def all_taken(self) -> None:
        """Raise ModelFileError if a tensor is left that no model of the architecture has."""
        if self.left:
            raise self.foreign(next(iter(self.left)))

    def foreign(self, name: str) -> ModelFileError:
        """An error saying that no model of the architecture has a tensor of that name."""
        families = " or ".join(architecture_of(self.file).families)
        return self.unusable(f"a tensor {name!r} that no {families} has")

    def unusable(self, what: str) -> ModelFileError:
        """An error saying that the file has `what`."""
        return ModelFileError(
            f"{self._weights.description} has {what}, so it cannot be fine-tuned: "
            "use another conversion of the model."
        )


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


def dequantised(raw: np.ndarray, type: str) -> np.ndarray:
    """Rows of bytes in a GGUF type, as (rows, columns) float32. Raises ModelFileError for a type
    that the linked llama.cpp cannot read."""
    values = dequantise(raw, type)
    if values is None:
        raise ModelFileError(
            f"The model is quantised as {type}, which cannot be fine-tuned on yet: use another "
            "quantisation of it."
        )
    return values.reshape(len(raw), -1)


def _rotation(reader: TensorReader, architecture: Architecture) -> Rotation:
    """base^(2i/d), stretched as the file says: linearly, or by factors of its own."""
    file = reader.file
    dimensions = int(reader.number("rope.dimension_count", file.key_length))
    if dimensions != file.key_length and not architecture.partial_rotation:
        raise not_yet(file, "rotates only a part of each head")
    periods: np.ndarray = reader.number("rope.freq_base", 10000.0) ** (
        np.arange(0, dimensions, 2) / dimensions
    )
    scale = 1.0
    scaling = file.metadata.get(f"{file.architecture}.rope.scaling.type", "linear")
    if scaling == "linear":
        older = reader.number("rope.scale_linear", 1.0)  # in files of 2023
        periods *= reader.number("rope.scaling.factor", older) or 1.0  # 0 says that there is none
    elif scaling == "yarn":
        periods, scale = _yarn(reader, periods)
    elif scaling != "none" and scaling not in architecture.scalings:
        raise not_yet(file, f"stretches its context by RoPE scaling {scaling!r}")
    used = architecture.used_table(file)
    for name in architecture.rotation_tables:
        if name in reader.left:
            factors = reader.values(name, (dimensions // 2,))
            periods *= factors if name == used else 1.0
    return Rotation(periods, scale * reader.number("rope.scaling.attn_factor", 1.0))


def _yarn(reader: TensorReader, periods: np.ndarray) -> tuple[np.ndarray, float]:
    """Periods in which slow pairs are stretched and fast ones are not, and what rotated numbers
    are multiplied by (arXiv 2309.00071, as llama.cpp has it)."""
    file = reader.file
    factor = reader.number("rope.scaling.factor", 1.0)
    original = reader.number("rope.scaling.original_context_length", file.context_length)
    base, count = reader.number("rope.freq_base", 10000.0), len(periods)

    def pair(turns: float) -> float:
        """The pair, counted from 0, that turns so often within the original context."""
        return float(count * math.log(original / (turns * 2 * math.pi)) / math.log(base))

    low = max(math.floor(pair(reader.number("rope.scaling.yarn_beta_fast", 32.0))), 0)
    high = min(math.ceil(pair(reader.number("rope.scaling.yarn_beta_slow", 1.0))), 2 * count - 1)
    stretched = np.clip((np.arange(count) - low) / max(high - low, 0.001), 0, 1)
    speeds = (stretched / factor + 1 - stretched) / periods
    return 1 / speeds, 1 + 0.1 * math.log(factor) if factor > 1 else 1.0


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
