"""A model with its adapter built in, as one GGUF file that any program can run.

W + scale · B·A, tensor by tensor and some rows at a time: memory stays at a few hundred
megabytes, whatever the size of the model.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openchat_local.finetune.adapter.tensors import matrix, pieces, quantised
from openchat_local.models.errors import AdapterError
from openchat_local.models.gguf import GGUFFile, read_gguf
from openchat_local.models.gguf.header import Tensor
from openchat_local.models.gguf.writer import (
    copied_fields,
    encoded,
    file_size,
    tensor,
    write_gguf_file,
)
from openchat_local.models.library.adapter_file import (
    AdapterFile,
    adapter_name,
    card_metadata,
    check_fits,
    read_adapter,
)
from openchat_local.models.system.atomic import replacing
from openchat_local.models.units import memory_in_words

# llama.cpp's numbers for `general.file_type`.
_WRITTEN_HERE = {"f32": 0, "f16": 1, "q8_0": 7}
# Written by llama.cpp's quantiser, from F16.
_BY_LLAMA_CPP = ("q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k_m", "q4_k_m", "q5_k_m", "q6_k")
MERGE_TYPES = (*_WRITTEN_HERE, *_BY_LLAMA_CPP)

# The most that one of llama.cpp's types takes of the same model in F16.
_LARGEST_SHARE = 0.45
_SPARE_BYTES = 256 * 2**20


def merge(
    adapter_path: Path,
    base_path: Path,
    out: Path,
    type_name: str = "f16",
    on_progress: Callable[[float], None] = lambda fraction: None,
    *,
    force: bool = False,
) -> None:
    """Write `base_path` with the adapter in it to `out`, whole or not at all.

    `type_name` is one of MERGE_TYPES and the type of every matrix; vectors stay as they are.
    `on_progress` gets fractions from 0 to 1; `force` takes an adapter of another model. Raises
    AdapterError, ModelFileError, or OSError.
    """
    adapter, base = read_adapter(adapter_path), read_gguf(base_path)
    check_fits(adapter, base, force=force)
    if out.exists():
        raise AdapterError(f"{out} is there already: choose another name, or delete it first.")
    if type_name in _WRITTEN_HERE:
        plan = _plan(adapter, base, type_name)
        _check_space(out, plan.size)
        _write(plan, out, on_progress)
        return
    plan = _plan(adapter, base, "f16")
    _check_space(out, round(plan.size * (1 + _LARGEST_SHARE)))
    with replacing(out, new=True) as part:
        intermediate = out.with_name(f"{part.name}.f16")
        try:
            _write(plan, intermediate, lambda fraction: on_progress(fraction / 2))
            from openchat_local.models.engine.quantise import quantise

            quantise(intermediate, part, type_name)
        finally:
            intermediate.unlink(missing_ok=True)
    on_progress(1.0)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything that can be known before the first byte is written."""

    adapter: AdapterFile
    base: GGUFFile
    fields: Mapping[str, bytes]
    tensors: list[Tensor]

    @property
    def size(self) -> int:
        return file_size(self.fields, self.tensors)


def _plan(adapter: AdapterFile, base: GGUFFile, type_name: str) -> _Plan:
    if "token_embd.weight" in adapter.pairs:
        raise AdapterError(
            f"The adapter {adapter_name(adapter.file.path)} changes the token embedding, "
            "which cannot be merged here: use it with --adapter."
        )
    fields = copied_fields(base)
    name = f"{base.name} + {adapter_name(adapter.file.path)}"
    fields["general.name"] = encoded(name)
    fields["general.file_type"] = encoded(_WRITTEN_HERE[type_name])
    fields["general.quantization_version"] = encoded(2)
    # Chat reads the condition from the file; other programs pass over these keys.
    fields |= {key: encoded(value) for key, value in card_metadata(adapter.card).items()}
    tensors = [
        tensor(item.name, item.shape, _type_in(type_name.upper(), item)) for item in base.tensors
    ]
    return _Plan(adapter, base, fields, tensors)


def _type_in(type_name: str, item: Tensor) -> str:
    if len(item.shape) < 2:
        return item.type
    return "F16" if type_name == "Q8_0" and item.shape[0] % 32 else type_name


def _write(plan: _Plan, out: Path, on_progress: Callable[[float], None]) -> None:
    done, total = 0, sum(item.byte_size for item in plan.tensors)

    def counted(parts: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal done
        for part in parts:
            yield part
            done += len(part)
            on_progress(done / total)

    both = zip(plan.base.tensors, plan.tensors, strict=True)
    with replacing(out, new=True) as part, part.open("wb") as file:
        data = (counted(_merged(plan, source, target.type)) for source, target in both)
        write_gguf_file(file, plan.fields, plan.tensors, data)


def _merged(plan: _Plan, source: Tensor, type_name: str) -> Iterator[bytes]:
    """The rows of `source` with the adapter's share, in `type_name`."""
    pair = plan.adapter.pairs.get(source.name)
    if pair is None and source.type == type_name:
        yield from _copied(plan.base, source)
        return
    a = b = None
    if pair is not None:
        a, b = (matrix(plan.adapter.file, half) for half in pair)
        a = a * np.float32(plan.adapter.scale(len(a)))
    row = 0
    for values in pieces(plan.base, source):
        if a is not None and b is not None:
            values = values + b[row : row + len(values)] @ a  # noqa: PLW2901
            row += len(values)
        packed = quantised(values, type_name)
        if type_name == "F16" and not np.isfinite(np.frombuffer(packed, "<f2")).all():
            raise AdapterError(
                f"{source.name} has values beyond the range of F16: merge with --type q8_0."
            )
        yield packed


def _copied(base: GGUFFile, source: Tensor) -> Iterator[bytes]:
    with base.place(source).open("rb") as stream:
        stream.seek(source.offset)
        left = source.byte_size
        while left:
            data = stream.read(min(left, 16 * 2**20))
            left -= len(data)
            yield data


def _check_space(out: Path, needed: int) -> None:
    if not out.parent.is_dir():
        raise AdapterError(f"There is no folder {out.parent}: create it, or name another.")
    free = shutil.disk_usage(out.parent).free
    if needed + _SPARE_BYTES > free:
        raise AdapterError(
            f"Merging needs {memory_in_words(needed)} in {out.parent} and "
            f"{memory_in_words(free)} is free: make room, or name a file on another disk."
        )
