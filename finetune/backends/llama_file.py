"""A llama-family GGUF file as every backend reads it: its shape, and the rows of its tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from openchat_local.models.errors import ModelFileError
from openchat_local.models.gguf import GGUFFile, Tensor
from openchat_local.models.gguf.dequantise import dequantise

SUPPORTED = ("Llama", "Mistral", "SmolLM2", "OpenChat 3.x")
DENSE_TYPES = frozenset({"F32", "F16", "BF16"})
# What the 16 codes of a nibble stand for: IQ4_NL's and IQ4_XS's, and twice MXFP4's.
IQ4_VALUES = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
MXFP4_VALUES = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)

# As float32, read at a time.
_PIECE_BYTES = 128 * 2**20


class Weights(Protocol):
    """Where the tensors of a model lie, by GGUF's names and in its row order. `description`
    says so to a person."""

    tensors: Sequence[Tensor]
    description: str

    def rows(self, tensor: Tensor) -> np.ndarray:
        """The tensor's rows, (rows, bytes) uint8."""


class GGUFWeights(Weights):
    """The tensors in a GGUF file itself."""

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
        """Raise ModelFileError if a tensor is left that no llama has."""
        if self.left:
            raise self.unusable(f"a tensor {next(iter(self.left))!r} that no Llama has")

    def unusable(self, what: str) -> ModelFileError:
        """An error saying that the file has `what`."""
        return ModelFileError(
            f"{self._weights.description} has {what}, so it cannot be fine-tuned: "
            "use another conversion of the model."
        )


@dataclass(frozen=True, slots=True)
class LlamaShape:
    """The sizes of a llama. `tied` says that the embedding is the output layer too.

    `rope_periods` is (head_width / 2,) float64: the i-th pair of a head turns once in
    2π · rope_periods[i] positions.
    """

    width: int
    blocks: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_width: int
    epsilon: float
    vocabulary: int
    tied: bool
    rope_periods: np.ndarray

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """(outputs, inputs) of a block's linear layers, by GGUF's names."""
        queries, keys = self.heads * self.head_width, self.kv_heads * self.head_width
        return {
            "attn_q": (queries, self.width),
            "attn_k": (keys, self.width),
            "attn_v": (keys, self.width),
            "attn_output": (self.width, queries),
            "ffn_gate": (self.feed_forward, self.width),
            "ffn_up": (self.feed_forward, self.width),
            "ffn_down": (self.width, self.feed_forward),
        }


def llama_shape(reader: TensorReader) -> LlamaShape:
    """The shape of the model in a file; takes its table of rotations.

    Raises ModelFileError for another architecture, or a llama that cannot be trained yet.
    """
    file = reader.file
    if file.architecture != "llama":
        raise _not_yet(file, f"is of the architecture {file.architecture or 'unknown'!r}")
    if file.metadata.get("llama.expert_count", 0):
        raise _not_yet(file, "is a mixture of experts")
    if file.key_length != file.value_length or len(set(file.head_counts_kv)) > 1:
        raise _not_yet(file, "has attention heads that differ in width or number")
    return LlamaShape(
        width=file.embedding_length,
        blocks=file.block_count,
        feed_forward=reader.tensor("blk.0.ffn_up.weight").shape[-1],
        heads=file.head_count,
        kv_heads=file.head_count_kv,
        head_width=file.key_length,
        epsilon=reader.number("llama.attention.layer_norm_rms_epsilon"),
        vocabulary=reader.tensor("token_embd.weight").shape[-1],
        tied="output.weight" not in reader.left,
        rope_periods=_rope_periods(reader),
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


def _rope_periods(reader: TensorReader) -> np.ndarray:
    """base^(2i/d), stretched as the file says: linearly, or by Llama 3's factors."""
    metadata = reader.file.metadata
    dimensions = int(reader.number("llama.rope.dimension_count", reader.file.key_length))
    base = reader.number("llama.rope.freq_base", 10000.0)
    periods: np.ndarray = base ** (np.arange(0, dimensions, 2) / dimensions)
    scaling = metadata.get("llama.rope.scaling.type", "linear")
    if scaling == "linear":
        older = reader.number("llama.rope.scale_linear", 1.0)  # in files of 2023
        periods *= reader.number("llama.rope.scaling.factor", older)
    elif scaling != "none":
        raise _not_yet(reader.file, f"stretches its context by RoPE scaling {scaling!r}")
    if "rope_freqs.weight" in reader.left:
        periods *= reader.values("rope_freqs.weight", (dimensions // 2,))
    return periods


def _not_yet(file: GGUFFile, what: str) -> ModelFileError:
    return ModelFileError(
        f"{file.path} {what}, which cannot be fine-tuned here yet: "
        f"choose a model of one of the families {', '.join(SUPPORTED)}."
    )
