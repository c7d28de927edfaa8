"""A GGUF model file as every backend reads it: its settings, and the rows of its tensors."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

import numpy as np

from openchat_local.finetune.architectures import architecture_of, number
from openchat_local.models.errors import ModelFileError
from openchat_local.models.gguf import GGUFFile, Tensor
from openchat_local.models.gguf.dequantise import dequantise
from openchat_local.models.units import size_in_words

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


def requantised_note(file: GGUFFile, types: Collection[str], form: str, bits: float) -> str:
    """What to say of tensors in `types`, which are held in another `form` that takes so many
    `bits` for a value."""
    tensors = [tensor for tensor in file.tensors if tensor.type in types]
    held = sum(round(math.prod(tensor.shape) * bits / 8) for tensor in tensors)
    stored = sum(tensor.byte_size for tensor in tensors)
    return (
        f"Tensors in {', '.join(sorted(types))} are held in {form} while training, which is near, "
        f"not equal, and takes {size_in_words(held)} where the file has {size_in_words(stored)}."
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
