"""Compressed files, read as a stream, with a bound on what they may become."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from openchat_local.finetune.data.faults import DataError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Text becomes a tenth of itself, repeated text perhaps a hundredth; a bomb of zeros a thousandth.
_MOST_GROWTH = 300
_HARMLESS = 2**28  # bytes unpacked, below which nobody minds


class _Packing(NamedTuple):
    begins: bytes
    name: str
    open: Callable[[BinaryIO], Any]


_PACKINGS = (
    _Packing(b"\x1f\x8b", "gzip", lambda file: gzip.GzipFile(fileobj=file)),
    _Packing(b"BZh", "bzip2", bz2.BZ2File),
    _Packing(b"\xfd7zXZ\x00", "xz", lzma.LZMAFile),
)
PACKED_SUFFIXES = (".gz", ".bz2", ".xz")


def unpacked(path: Path) -> tuple[io.BufferedReader, str]:
    """The bytes that `path` holds, unpacked if it is compressed, and what with ("" if it is not).

    Reading raises DataError where the compressed file is broken, or grows beyond all measure;
    opening it raises OSError.
    """
    file = path.open("rb")
    head = file.peek(8)
    for packing in _PACKINGS:
        if head.startswith(packing.begins):
            return io.BufferedReader(_Unpacking(path, file, packing), 2**16), packing.name
    return file, ""


class _Unpacking(io.RawIOBase):
    def __init__(self, path: Path, packed: BinaryIO, packing: _Packing) -> None:
        self._path, self._packed, self._name = path, packed, packing.name
        self._file = cast("BinaryIO", packing.open(packed))
        self._size = path.stat().st_size
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        try:
            data = self._file.read(len(view))
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            reason = str(error) or "it ends too early"
            raise DataError(
                f"{self._path} is compressed with {self._name} and broken after {self._read:,} "
                f"bytes of what it holds ({reason}): fetch or pack it once more."
            ) from None
        self._read += len(data)
        if self._read > max(_HARMLESS, self._size * _MOST_GROWTH):
            raise DataError(
                f"{self._path} unpacks to more than {_MOST_GROWTH} times its size, which no "
                "conversations do: unpack it yourself, and see what it holds."
            )
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
            self._packed.close()
        super().close()
