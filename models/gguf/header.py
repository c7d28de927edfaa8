"""A GGUF header, byte by byte. The file is untrusted: no count is believed before the
bytes that it promises are known to exist, and every fault is a `ModelFileError`.

(Not the package `gguf`, which believes the counts: a header of 69 bytes that promises an array
of 2**40 texts keeps it busy without end.)

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

from openchat_local.models.errors import ModelFileError

_STRING, _ARRAY = 8, 9
_SCALARS = {
    number: struct.Struct("<" + code)
    for number, code in {
        0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
    }.items()
}  # fmt: skip
_U32 = _SCALARS[4]
_U64 = _SCALARS[10]
_EAGER_ELEMENTS = 1024
_MAX_KEY_BYTES = 65535
_MAX_DIMENSIONS = 4
_MOST_ITEMS = 2**24  # strings or tensors: more are a wrong count, and no missing bytes

# ggml type number: (name, weights in a block, bytes in a block).
GGML_TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2),
    26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
    42: ("Q2_0", 64, 18),
}  # fmt: skip

# Types of 2024 that llama.cpp has dropped, and those whose blocks it repacks so itself now.
_REPACKED: Mapping[int, tuple[str, str]] = {
    31: ("Q4_0_4_4", "Q4_0"), 32: ("Q4_0_4_8", "Q4_0"), 33: ("Q4_0_8_8", "Q4_0"),
    36: ("IQ4_NL_4_4", "IQ4_NL"), 37: ("IQ4_NL_4_8", "IQ4_NL"), 38: ("IQ4_NL_8_8", "IQ4_NL"),
}  # fmt: skip
DROPPED_TYPES = dict(_REPACKED.values())


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor. `shape` is in GGUF's order, the contiguous dimension first; `offset`
    counts bytes from the start of the file, which is the `part`th where a model is in several."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    byte_size: int
    part: int = 0

    @property
    def bits_per_value(self) -> float:
        """What a value takes in the file, its share of scales included."""
        return 8 * self.byte_size / math.prod(self.shape)


@dataclass(frozen=True)
class LazyArray(Sequence[Any]):
    """A long metadata array, read from disk at its first use."""

    path: Path
    element_type: int
    length: int
    offset: int
    byte_size: int

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._values[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    @cached_property
    def _values(self) -> list[Any]:
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read(self.byte_size)
        except OSError as error:
            raise cannot_read(self.path, error) from error
        return _Cursor(self.path, data).elements(self.element_type, self.length)


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the tensor data, which begins at byte `data_offset`. `spans` are the
    first byte of each metadata value, its type tag included, and the byte after its last."""

    metadata: Mapping[str, Any]
    tensors: Sequence[Tensor]
    data_offset: int
    spans: Mapping[str, tuple[int, int]]


class _Cursor:
    """A position in untrusted bytes. Reading past their end is a ModelFileError."""

    def __init__(self, path: Path, data: mmap.mmap | bytes) -> None:
        self.path = path
        self.data = data
        self.size = len(data)
        self.position = 0
        self.in_header = True

    def scalar(self, layout: struct.Struct) -> Any:
        start = self.skip(layout.size)
        return layout.unpack_from(self.data, start)[0]

    def skip(self, count: int) -> int:
        """Pass over `count` bytes that must exist; returns where they start."""
        start = self.position
        if count > self.size - start:
            raise self.short(start + count)
        self.position = start + count
        return start

    def string(self, longest: int | None = None) -> str:
        length = self.scalar(_U64)
        if longest is not None and length > longest:
            raise self.damaged(f"a name of {length} bytes")
        start = self.skip(length)
        return self.data[start : self.position].decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self.array()
        if kind not in _SCALARS:
            raise self.damaged(f"a value of unknown type {kind}")
        return self.scalar(_SCALARS[kind])

    def array(self) -> Sequence[Any]:
        kind, count = self.scalar(_U32), self.scalar(_U64)
        if kind != _STRING and kind not in _SCALARS:
            raise self.damaged(f"an array of unknown type {kind}")
        start = self.position
        if count <= _EAGER_ELEMENTS:
            return self.elements(kind, count)
        if kind == _STRING:
            self._skip_strings(count)
        else:
            self.skip(count * _SCALARS[kind].size)
        return LazyArray(self.path, kind, count, start, self.position - start)

    def elements(self, kind: int, count: int) -> list[Any]:
        if kind == _STRING:
            return [self.string() for _ in range(count)]
        layout = _SCALARS[kind]
        start = self.skip(count * layout.size)
        return [value for (value,) in layout.iter_unpack(self.data[start : self.position])]

    def _skip_strings(self, count: int) -> None:
        # A hundred thousand strings a header: the loop is flat to keep it in milliseconds.
        data, position, last = self.data, self.position, self.size - _U64.size
        if count > (self.size - position) // _U64.size:
            if count > _MOST_ITEMS:
                raise self.damaged(f"an array of {count} strings")
            raise self.short(position + count * _U64.size)
        length_at = _U64.unpack_from
        for _ in range(count):
            if position > last:
                raise self.short(position + _U64.size)
            position += _U64.size + length_at(data, position)[0]
        if position > self.size:
            raise self.short(position)
        self.position = position

    def short(self, needed: int) -> ModelFileError:
        """The file ends before `needed` bytes."""
        if needed > 2**50:
            return self.damaged("an impossible length")
        if self.in_header:
            return ModelFileError(
                f"{self.path} ends in the middle of its header, after {self.size:,} bytes: "
                "the download did not finish; fetch it again."
            )
        return ModelFileError(
            f"{self.path} is {needed - self.size} bytes short: "
            "the download did not finish; fetch it again."
        )

    def damaged(self, what: str) -> ModelFileError:
        return ModelFileError(f"{self.path} has {what} in its header: fetch the file again.")


def read_header(path: Path, data: mmap.mmap | bytes) -> Header:
    """Read and check the header of `data`, all the bytes of the file at `path`.

    Raises ModelFileError.
    """
    cursor = _Cursor(path, data)
    tensor_count, metadata_count = _read_counts(cursor)
    metadata: dict[str, Any] = {}
    spans: dict[str, tuple[int, int]] = {}
    for _ in range(metadata_count):
        key = cursor.string(_MAX_KEY_BYTES)
        if key in metadata:
            raise cursor.damaged(f"the key {key!r} twice")
        start = cursor.position
        metadata[key] = cursor.value(cursor.scalar(_U32))
        spans[key] = start, cursor.position
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 8 <= alignment <= 2**20 or alignment % 8:
        raise cursor.damaged(f"the alignment {alignment!r}")
    infos = [_read_tensor(cursor) for _ in range(tensor_count)]
    data_offset = -(-cursor.position // alignment) * alignment
    tensors = _placed(cursor, infos, data_offset, alignment)
    return Header(metadata, tensors, min(data_offset, cursor.size), spans)


def _read_counts(cursor: _Cursor) -> tuple[int, int]:
    start = bytes(cursor.data[:512])
    if start[:4] != b"GGUF":
        raise ModelFileError(
            f"{cursor.path} is not a GGUF file{_looks_like(start)}; "
            "fetch the model's .gguf file itself."
        )
    cursor.skip(4)
    version = cursor.scalar(_U32)
    if version & 0xFFFF == 0 and version:
        raise ModelFileError(
            f"{cursor.path} is a big-endian GGUF file; fetch the usual little-endian one."
        )
    if version not in (2, 3):
        raise ModelFileError(
            f"{cursor.path} is GGUF version {version}, and versions 2 and 3 are read here; "
            "fetch a current conversion of the model."
        )
    tensor_count, metadata_count = cursor.scalar(_U64), cursor.scalar(_U64)
    # The least that a tensor (24) or a key (13) takes: refuse before looping.
    if tensor_count * 24 + metadata_count * 13 > cursor.size:
        if tensor_count + metadata_count <= _MOST_ITEMS:
            raise cursor.short(tensor_count * 24 + metadata_count * 13)
        raise cursor.damaged(f"{tensor_count} tensors and {metadata_count} keys claimed")
    return tensor_count, metadata_count


def _looks_like(start: bytes) -> str:
    text = start.lstrip().lower()
    for sign, what in (
        (b"version https://git-lfs", " but a Git LFS pointer to one"),
        (b"<!doctype html", " but a web page that a failed download saved"),
        (b"<html", " but a web page that a failed download saved"),
        (b"pk\x03\x04", " but a zip archive or a PyTorch checkpoint"),
        (b"\x1f\x8b", " but a gzip archive"),
        (b"lmgg", " but its predecessor GGML"),
        (b"fmgg", " but its predecessor GGML"),
        (b"tjgg", " but its predecessor GGML"),
        (b"{", " but JSON text"),
    ):
        if text.startswith(sign):
            return what
    return " but safetensors" if start[8:9] == b"{" else ""


def _read_tensor(cursor: _Cursor) -> Tensor:
    """A tensor whose offset still counts from the start of the tensor data."""
    name = cursor.string(_MAX_KEY_BYTES)
    dimensions = cursor.scalar(_U32)
    if dimensions > _MAX_DIMENSIONS:
        raise cursor.damaged(f"a tensor {name!r} of {dimensions} dimensions")
    shape = tuple(cursor.scalar(_U64) for _ in range(dimensions))
    kind, offset = cursor.scalar(_U32), cursor.scalar(_U64)
    if kind in _REPACKED:
        type_name, plain = _REPACKED[kind]
        raise ModelFileError(
            f"{cursor.path} is quantised as {type_name}, which llama.cpp no longer reads: fetch "
            f"the model in {plain}, which is as fast now."
        )
    if kind not in GGML_TYPES:
        raise ModelFileError(
            f"{cursor.path} stores {name!r} in the unknown type {kind}: "
            "update openchat-local, or fetch another quantisation."
        )
    type_name, block, block_bytes = GGML_TYPES[kind]
    if shape and shape[0] % block:
        raise cursor.damaged(f"a tensor {name!r} with rows that are not whole {type_name} blocks")
    return Tensor(name, shape, type_name, offset, math.prod(shape) // block * block_bytes)


def _placed(
    cursor: _Cursor, infos: Sequence[Tensor], data_offset: int, alignment: int
) -> list[Tensor]:
    """The tensors at their places in the file, which must exist and not overlap."""
    tensors = [
        Tensor(info.name, info.shape, info.type, info.offset + data_offset, info.byte_size)
        for info in infos
    ]
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise cursor.damaged("the same tensor twice")
    end = data_offset
    for tensor in sorted(tensors, key=lambda tensor: tensor.offset):
        if tensor.offset % alignment or tensor.offset < end:
            raise cursor.damaged(f"a tensor {tensor.name!r} at an impossible place")
        end = tensor.offset + tensor.byte_size
    cursor.in_header = False
    if tensors and end > cursor.size:
        raise cursor.short(end)
    return tensors


def cannot_read(path: Path, error: OSError) -> ModelFileError:
    """What to tell the user when the system refuses to read `path`."""
    if isinstance(error, FileNotFoundError):
        return ModelFileError(f"There is no file {path}; check the path.")
    if isinstance(error, PermissionError):
        return ModelFileError(f"{path} may not be read; give yourself permission to read it.")
    return ModelFileError(f"{path} cannot be read ({error.strerror}); check the disk.")
