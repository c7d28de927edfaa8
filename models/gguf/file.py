"""What a GGUF model file says of itself, and whether the file is whole.

Only the header is read (`header`), through a memory map that is closed again;
tensor data and long arrays stay on disk until asked for.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from openchat_local.models.errors import ModelFileError
from openchat_local.models.gguf.header import Header, Tensor, cannot_read, read_header
from openchat_local.models.gguf.split import parts_of, read_parts, refuse_piece, without_part

_MOST_BLOCKS = 2**14  # llama.cpp's limit is 512

__all__ = ["GGUFFile", "Tensor", "read_gguf"]


@dataclass(frozen=True)
class GGUFFile:
    """A GGUF file's header. Sizes in bytes; `data_offset` is where tensor data begins,
    `spans` where the metadata values stand (see `gguf_header.Header`).

    Of a model in several `parts`, `path` is the first, `file_size` that of all together.

    The shape properties raise ModelFileError where the file does not say.
    """

    path: Path
    metadata: Mapping[str, Any]
    tensors: Sequence[Tensor]
    file_size: int
    data_offset: int
    spans: Mapping[str, tuple[int, int]] = field(repr=False)
    parts: tuple[Path, ...] = ()

    def place(self, tensor: Tensor) -> Path:
        """The file that holds `tensor`."""
        return self.parts[tensor.part] if self.parts else self.path

    @property
    def architecture(self) -> str:
        """llama.cpp's name for the architecture, such as ``"llama"``; "" if absent."""
        return self._text("general.architecture")

    @property
    def name(self) -> str:
        """The model's own name, or else the file's."""
        return self._text("general.name") or Path(without_part(self.path.name)).stem

    @property
    def chat_template(self) -> str | None:
        """The embedded Jinja chat template."""
        return self._text("tokenizer.chat_template") or None

    @property
    def context_length(self) -> int:
        """Tokens that the model was trained to attend to."""
        return self._number("context_length")

    @property
    def block_count(self) -> int:
        """Transformer blocks."""
        count = self._number("block_count")
        if count > _MOST_BLOCKS:  # lists as long as that would be made of it
            raise self._unusable(self._key("block_count"))
        return count

    @property
    def embedding_length(self) -> int:
        """Width of the residual stream."""
        return self._number("embedding_length")

    @property
    def feed_forward_length(self) -> int:
        """Width inside of a block's feed-forward; 3.5 times the stream's if absent."""
        if self._attends_not("feed_forward_length"):
            return 7 * self.embedding_length // 2
        return self._number("feed_forward_length", 7 * self.embedding_length // 2)

    @property
    def head_count(self) -> int:
        """Query heads; the largest number where layers differ, 0 where none attends."""
        if self._attends_not("attention.head_count"):
            return 0
        return max(self._per_layer("attention.head_count"))

    @property
    def head_count_kv(self) -> int:
        """Key/value heads; the largest number where layers differ."""
        return max(self.head_counts_kv)

    @property
    def head_counts_kv(self) -> tuple[int, ...]:
        """Key/value heads of each layer: `block_count` numbers."""
        if self._attends_not("attention.head_count_kv"):
            return (0,) * self.block_count
        if self._key("attention.head_count_kv") not in self.metadata:
            return self._per_layer("attention.head_count")
        return self._per_layer("attention.head_count_kv")

    @property
    def key_length(self) -> int:
        """Width of one key head, 0 where there are none."""
        return self._number("attention.key_length", self._head_width) if self.head_count else 0

    @property
    def value_length(self) -> int:
        """Width of one value head, 0 where there are none."""
        return self._number("attention.value_length", self._head_width) if self.head_count else 0

    @property
    def vocab_size(self) -> int:
        """Tokens in the vocabulary."""
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        return len(tokens) if isinstance(tokens, Sequence) else self._number("vocab_size")

    def kv_bytes_per_token(self, type_size: int = 2) -> int:
        """KV cache bytes that one token takes, `type_size` bytes an element.

        Exact for full attention; an upper bound where layers use a sliding window.
        """
        return sum(self.head_counts_kv) * (self.key_length + self.value_length) * type_size

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the header, the file's size and 16 samples of tensor data.

        Tells apart models, quantisations and vocabularies in milliseconds. Two files that
        differ only in tensor bytes between the samples look the same: it identifies a
        file, it does not prove that the file is intact.
        """
        digest = hashlib.sha256(f"{self.file_size}:".encode())
        sample = 65536
        for path in self.parts or (self.path,):
            try:
                with path.open("rb") as file:
                    # Of a further part what is known here is its size: its header is sampled.
                    start = self.data_offset if path == self.path else 0
                    size = file.seek(0, 2) if self.parts else self.file_size
                    file.seek(0)
                    digest.update(file.read(start))
                    for position in range(start, size, max((size - start) // 16, 1)):
                        file.seek(position)
                        digest.update(file.read(sample))
            except OSError as error:
                raise cannot_read(path, error) from error
        return digest.hexdigest()

    @property
    def _head_width(self) -> int:
        return self.embedding_length // self.head_count if self.head_count else 0

    def _attends_not(self, name: str) -> bool:
        """Whether nothing is said of heads and the like because the model keeps a state of its
        own in place of attention, as Mamba and RWKV do."""
        prefixes = tuple(self._key(f"{kind}.") for kind in ("ssm", "wkv", "shortconv"))
        recurrent = any(key.startswith(prefixes) for key in self.metadata)
        return recurrent and self.metadata.get(self._key(name), 0) == 0

    def _key(self, name: str) -> str:
        return f"{self.architecture}.{name}"

    def _text(self, key: str) -> str:
        value = self.metadata.get(key, "")
        return value if isinstance(value, str) else ""

    def _number(self, name: str, default: int | None = None) -> int:
        return max(self._numbers(self._key(name), default))

    def _per_layer(self, name: str) -> tuple[int, ...]:
        numbers = self._numbers(self._key(name))
        if len(numbers) not in (1, self.block_count):
            raise self._unusable(self._key(name))
        return numbers if len(numbers) > 1 else numbers * self.block_count

    def _numbers(self, key: str, default: int | None = None) -> tuple[int, ...]:
        value = self.metadata.get(key, default)
        numbers = tuple(value) if isinstance(value, Sequence) else (value,)
        plausible = all(type(n) is int and 0 <= n < 2**32 for n in numbers)
        if not plausible or not numbers or max(numbers) < 1:
            raise self._unusable(key)
        return numbers

    def _unusable(self, key: str) -> ModelFileError:
        return ModelFileError(
            f"{self.path} gives no usable {key!r}: it is not a complete language model; "
            "use a GGUF file that holds a whole model."
        )


def read_gguf(path: Path | str) -> GGUFFile:
    """Read and check the header of the GGUF file at `path`, or those of all parts of the model
    that it is a part of.

    Raises ModelFileError if the file or another part is missing, unreadable, not GGUF,
    truncated, or inconsistent.
    """
    path = Path(path)
    refuse_piece(path)
    header, size = _read(path)
    count = parts_of(header.metadata)
    parts: list[Path] = []
    if count > 1:
        parts, header = read_parts(path, count, lambda part: _read(part)[0])
        path, size = parts[0], sum(part.stat().st_size for part in parts)
    return GGUFFile(
        path, header.metadata, header.tensors, size, header.data_offset, header.spans, tuple(parts)
    )


def _read(path: Path) -> tuple[Header, int]:
    """The header of one file, and its size in bytes. Raises ModelFileError."""
    if path.is_dir():
        raise ModelFileError(f"{path} is a directory; give the path of a .gguf file in it.")
    if path.exists() and not path.is_file():  # opening a pipe would wait for its writer
        raise ModelFileError(
            f"{path} is not a regular file (a pipe or a device); save the model to a file first."
        )
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size == 0:
                raise ModelFileError(f"{path} is empty; fetch the file again.")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return read_header(path, data), size
    except OSError as error:
        raise cannot_read(path, error) from error
