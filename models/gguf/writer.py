"""Writing GGUF files: the header at once, then the tensor data as it comes.

The values of another file's header can be copied as the bytes that they are there, so that
a vocabulary of a hundred thousand strings is never taken apart.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import BinaryIO

from openchat_local.models.gguf import GGUFFile
from openchat_local.models.gguf.header import GGML_TYPES, Tensor

ALIGNMENT = 32

Value = str | bool | int | float | Sequence[str] | Sequence[float]

_TYPE_NUMBERS = {name: number for number, (name, _, _) in GGML_TYPES.items()}


def copied_fields(file: GGUFFile) -> dict[str, bytes]:
    """Every metadata value of `file`, encoded, except its alignment and how it is split."""
    with file.path.open("rb") as stream:

        def read(start: int, stop: int) -> bytes:
            stream.seek(start)
            return stream.read(stop - start)

        spans = file.spans.items()
        return {
            key: read(*span)
            for key, span in spans
            if key != "general.alignment" and not key.startswith("split.")
        }


def encoded(value: Value) -> bytes:
    """A metadata value with its type tag: text, truth, uint32, float32, or a list of texts
    or of floats (float64, so that they are read back as they were)."""
    match value:
        case str():
            return struct.pack("<I", 8) + _string(value)
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
    texts = [item for item in value if isinstance(item, str)]
    if texts:
        return struct.pack("<IIQ", 9, 8, len(texts)) + b"".join(map(_string, texts))
    return struct.pack(f"<IIQ{len(value)}d", 9, 12, len(value), *value)


def tensor(name: str, shape: Sequence[int], type_name: str) -> Tensor:
    """A tensor to be written; `shape` is in GGUF's order, and its place is not known yet."""
    _, block, block_bytes = GGML_TYPES[_TYPE_NUMBERS[type_name]]
    return Tensor(name, tuple(shape), type_name, 0, math.prod(shape) // block * block_bytes)


def file_size(fields: Mapping[str, bytes], tensors: Sequence[Tensor]) -> int:
    """How many bytes `write_gguf_file` will write."""
    return len(_header(fields, tensors)) + sum(_padded(tensor.byte_size) for tensor in tensors)


def write_gguf_file(
    out: BinaryIO,
    fields: Mapping[str, bytes],
    tensors: Sequence[Tensor],
    data: Iterable[Iterable[bytes]],
) -> None:
    """Write a whole file: `fields` encoded, and for each tensor its `data` in pieces."""
    out.write(_header(fields, tensors))
    for described, pieces in zip(tensors, data, strict=True):
        written = 0
        for piece in pieces:
            written += out.write(piece)
        assert written == described.byte_size, described.name
        out.write(bytes(_padded(written) - written))


def _header(fields: Mapping[str, bytes], tensors: Sequence[Tensor]) -> bytes:
    parts = [struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(fields))]
    parts += [_string(key) + value for key, value in fields.items()]
    offset = 0
    for item in tensors:
        dimensions = struct.pack(f"<I{len(item.shape)}Q", len(item.shape), *item.shape)
        place = struct.pack("<IQ", _TYPE_NUMBERS[item.type], offset)
        parts.append(_string(item.name) + dimensions + place)
        offset += _padded(item.byte_size)
    header = b"".join(parts)
    return header + bytes(_padded(len(header)) - len(header))


def _string(text: str) -> bytes:
    data = text.encode("utf-8", "replace")
    return struct.pack("<Q", len(data)) + data


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
