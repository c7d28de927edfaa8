"""Which base model a GGUF file holds, whatever it is quantised as.

An adapter is trained on one file and means the same on any quantisation of that model. What
quantising leaves alone is compared exactly: shapes, tokens, and the norms, which stay as they
are in every quantisation. Of the matrices a few rows are compared as numbers.

How near must they be? For blocks of b bits a weight, 1 - cosine between the weights and what is
left of them was measured as 1.0 to 3.1 times 4^-b for each of llama.cpp's types from Q8_0 to
Q2_K (normally distributed weights); that is the distortion of a scalar quantiser, which falls by
four with each bit (Gersho and Gray, "Vector Quantization and Signal Compression", 1992, chapter
5). Allowed is four times the most that was measured, for both files together: real weights have
outliers. Rows of another model have a cosine near 0, and at most half of the way there is ever
allowed. Between two fine-tunes of one model the rows may differ by less than that: they are told
apart by their norms, which training moves and quantising does not.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from openchat_local.models.errors import ModelFileError
from openchat_local.models.gguf import GGUFFile, Tensor
from openchat_local.models.gguf.header import GGML_TYPES, cannot_read

if TYPE_CHECKING:
    import numpy as np

_NOISE = 12.0  # times 4^-bits: what quantising may cost in 1 - cosine
_LEAST_NOISE, _MOST_NOISE = 1e-5, 0.5
# Of each matrix: rows that lie evenly apart, and of each so many values, which are whole
# blocks of any type.
_ROWS, _COLUMNS = 4, 256
_MATRICES = ("attn_q", "attn_qkv", "ffn_down", "ffn_up", "attn_output")
_BITS = {name: 8 * size / block for name, block, size in GGML_TYPES.values()}


@dataclass(frozen=True, slots=True)
class Sample:
    """Some values of a tensor as float32, base64 of little-endian bytes, and the type that they
    were stored in."""

    tensor: str
    type: str
    values: str


@dataclass(frozen=True, slots=True)
class BaseIdentity:
    """A base model's `shape` (blocks, width, heads, key/value heads), SHA-256 (hex) of its
    `tokens` and of its `norms` (vectors of each block, in float32), and samples of matrices."""

    shape: tuple[int, ...]
    tokens: str
    norms: str
    samples: tuple[Sample, ...]

    def as_json(self) -> str:
        """One line of JSON, for `from_json`."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> BaseIdentity | None:
        """What `as_json` gave; None for anything else."""
        try:
            fields = json.loads(text)
            samples = tuple(Sample(**sample) for sample in fields["samples"])
            shape = tuple(int(number) for number in fields["shape"])
            if any(len(base64.b64decode(one.values, validate=True)) % 4 for one in samples):
                return None
            return cls(shape, str(fields["tokens"]), str(fields["norms"]), samples)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


def identity_of(file: GGUFFile) -> BaseIdentity:
    """The identity of the model in `file`. Raises ModelFileError."""
    tensors = {tensor.name: tensor for tensor in file.tensors}
    samples = tuple(
        Sample(name, tensors[name].type, base64.b64encode(values.tobytes()).decode("ascii"))
        for name in _sampled(tensors)
        if (values := _rows(file, tensors[name])) is not None
    )
    return BaseIdentity(_shape(file), _tokens(file), _norms(file), samples)


def difference(identity: BaseIdentity, file: GGUFFile) -> str | None:
    """What tells the model in `file` from the one of that identity, in words that follow "has";
    None where it is the same one. Raises ModelFileError."""
    if identity.shape != _shape(file):
        return "other sizes"
    if identity.tokens != _tokens(file):
        return "another vocabulary"
    if identity.norms != _norms(file):
        return "other norms"
    tensors = {tensor.name: tensor for tensor in file.tensors}
    for sample in identity.samples:
        tensor = tensors.get(sample.tensor)
        if tensor is None:
            return f"no {sample.tensor}"
        theirs = _rows(file, tensor)
        if theirs is None:
            continue  # of a type that no program here can read: it will not be loaded either
        ours = _values(sample)
        if ours.shape != theirs.shape or not _is_near(ours, theirs, _allowed(sample, tensor)):
            return f"other weights in {sample.tensor}"
    return None


def _shape(file: GGUFFile) -> tuple[int, ...]:
    return file.block_count, file.embedding_length, file.head_count, file.head_count_kv


def _tokens(file: GGUFFile) -> str:
    tokens = file.metadata.get("tokenizer.ggml.tokens", ())
    # Converters write the spaces of added tokens either way.
    text = "\0".join(str(token).replace("\u2581", " ") for token in tokens)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _norms(file: GGUFFile) -> str:
    digest = hashlib.sha256()
    for tensor in sorted(file.tensors, key=lambda tensor: tensor.name):
        if len(tensor.shape) == 1 and tensor.name.endswith("norm.weight"):
            values = _read(file, tensor, 0, tensor.byte_size)
            if values is not None:
                digest.update(tensor.name.encode() + values.astype("<f4").tobytes())
    return digest.hexdigest()


def _sampled(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """Two matrices of the first, the middle and the last block, as far as there are any."""
    blocks = sorted({name.split(".")[1] for name in tensors if name.startswith("blk.")}, key=_order)
    for block in dict.fromkeys(blocks[i] for i in (0, len(blocks) // 2, -1)) if blocks else ():
        names = (f"blk.{block}.{matrix}.weight" for matrix in _MATRICES)
        found = [name for name in names if name in tensors and len(tensors[name].shape) == 2]
        yield from found[:2]


def _order(block: str) -> tuple[int, str]:
    return (int(block), "") if block.isdigit() else (2**31, block)


def _rows(file: GGUFFile, tensor: Tensor) -> np.ndarray | None:
    """Sampled values of a matrix, (values,) float32; None where its type cannot be read."""
    import numpy as np

    columns, rows = tensor.shape
    row_bytes = tensor.byte_size // rows
    count = min(_COLUMNS, columns)
    pieces = []
    for row in sorted({rows * number // _ROWS for number in range(_ROWS)}):
        size = row_bytes * count // columns
        values = _read(file, tensor, row * row_bytes, size)
        if values is None:
            return None
        pieces.append(values)
    found: np.ndarray = np.concatenate(pieces).astype("<f4")
    return found


def _read(file: GGUFFile, tensor: Tensor, start: int, size: int) -> np.ndarray | None:
    from openchat_local.models.gguf.dequantise import dequantise

    try:
        with file.place(tensor).open("rb") as stream:
            stream.seek(tensor.offset + start)
            data = stream.read(size)
    except OSError as error:
        raise cannot_read(file.place(tensor), error) from error
    if len(data) < size:
        raise ModelFileError(f"{file.path} ends in the middle of a tensor: fetch it again.")
    return dequantise(data, tensor.type)


def _values(sample: Sample) -> np.ndarray:
    import numpy as np

    return np.frombuffer(base64.b64decode(sample.values, validate=True), "<f4")


def _is_near(ours: np.ndarray, theirs: np.ndarray, allowed: float) -> bool:
    """Whether 1 - cosine is at most that; false for numbers that are not finite."""
    import numpy as np

    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    lengths = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
    if not lengths:  # nothing but zeros on one side
        return not (ours.any() or theirs.any())
    return bool(1.0 - ours @ theirs / lengths <= allowed)


def _allowed(sample: Sample, tensor: Tensor) -> float:
    noise = sum(
        _NOISE * math.pow(4.0, -_BITS.get(type, 16.0)) for type in (sample.type, tensor.type)
    )
    return min(max(noise, _LEAST_NOISE), _MOST_NOISE)
