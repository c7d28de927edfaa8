"""The numbers in a GGUF file, a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from openchat_local.models.errors import ModelFileError
from openchat_local.models.gguf import GGUFFile, Tensor
from openchat_local.models.gguf.dequantise import dequantise
from openchat_local.models.system.installing import install_command
from openchat_local.models.system.one_module import one_module

# As float32. Dequantising takes a few times as much for a moment.
PIECE_BYTES = 64 * 2**20


def pieces(file: GGUFFile, tensor: Tensor) -> Iterator[np.ndarray]:
    """The rows of a tensor in order, each piece (rows, columns) float32.

    Raises ModelFileError where the type cannot be read.
    """
    columns = tensor.shape[0]
    total = int(np.prod(tensor.shape, dtype=np.int64)) // columns
    at_a_time = max(1, PIECE_BYTES // (4 * columns))
    row_bytes = tensor.byte_size // total
    with file.place(tensor).open("rb") as stream:
        stream.seek(tensor.offset)
        for start in range(0, total, at_a_time):
            count = min(at_a_time, total - start)
            raw = np.frombuffer(stream.read(count * row_bytes), np.uint8).reshape(count, row_bytes)
            yield _dequantised(file, raw, tensor.type)


def matrix(file: GGUFFile, tensor: Tensor) -> np.ndarray:
    """A whole small tensor, (rows, columns) float32."""
    return np.concatenate(list(pieces(file, tensor)))


def quantised(values: np.ndarray, type_name: str) -> bytes:
    """Rows of float32 in a GGUF type: F32, F16 or Q8_0."""
    match type_name:
        case "F32":
            return values.astype("<f4", copy=False).tobytes()
        case "F16":
            with np.errstate(over="ignore"):  # the caller looks for infinities
                return values.astype("<f2").tobytes()
    quants = _quants()
    packed: np.ndarray = quants.quantize(values, quants.GGMLQuantizationType[type_name])
    return packed.tobytes()


def _dequantised(file: GGUFFile, raw: np.ndarray, type_name: str) -> np.ndarray:
    values = dequantise(raw, type_name)
    if values is None:
        raise ModelFileError(
            f"{file.path} is quantised as {type_name}, which cannot be read yet: "
            "use another quantisation of the model."
        )
    return values.reshape(len(raw), -1)


def _quants() -> Any:
    try:
        return one_module("gguf.quants")
    except ImportError:
        raise ModelFileError(
            f"Writing a quantised model here needs the package gguf: {install_command('gguf')}."
        ) from None
