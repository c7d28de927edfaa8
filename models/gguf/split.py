"""Models in several files, as llama.cpp's `llama-gguf-split` cuts them.

NAME-00001-of-00003.gguf holds the metadata, each part some of the tensors. `split.count`,
`split.no` and `split.tensors.count` say how many parts and tensors there are, and which part it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from openchat_local.models.errors import ModelFileError
from openchat_local.models.gguf.header import Header, Tensor

_PART = re.compile(r"(?P<name>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
# What `split` and uploaders made of files that were too long for a hub: bytes, not models.
_PIECE = re.compile(r"(?P<whole>.+\.gguf)(?:-split-[a-z]+|\.part\d+of\d+)", re.IGNORECASE)
_NORM = re.compile(r"blk\.(\d+)\.(?:attn|ffn)_norm\.weight")


def part_names(name: str) -> list[str]:
    """The names of all parts, in order, of the model that the file `name` is a part of; [] for
    the name of a whole model."""
    match = _PART.fullmatch(name)
    if match is None or not 1 <= int(match["number"]) <= int(match["count"]):
        return []
    count, suffix = match["count"], name[-len(".gguf") :]
    return [f"{match['name']}-{n:05}-of-{count}{suffix}" for n in range(1, int(count) + 1)]


def without_part(name: str) -> str:
    """`name` without what makes it a part: "m.gguf" of "m-00001-of-00003.gguf"."""
    match = _PART.fullmatch(name)
    return name if match is None else f"{match['name']}.gguf"


def parts_of(metadata: Mapping[str, Any]) -> int:
    """How many parts the model is in; 1 for a whole one."""
    count = metadata.get("split.count", 1)
    return count if type(count) is int and count > 1 else 1


def refuse_piece(path: Path) -> None:
    """Raise ModelFileError for a file whose name says that it is one of the pieces of another
    that was cut anywhere."""
    if match := _PIECE.fullmatch(path.name):
        raise ModelFileError(
            f"{path} is one piece of a file that was cut for its length: join all pieces in their "
            f"order into one file {match['whole']}, and use that."
        )


def read_parts(path: Path, count: int, read: Callable[[Path], Header]) -> tuple[list[Path], Header]:
    """The files of the model that the one at `path` is one of `count` parts of, and its header:
    the first part's, with the tensors of all, each of which knows its part.

    `read` reads one part's header. Raises ModelFileError where a part is missing, or is one of
    another model.
    """
    names = part_names(path.name)
    if len(names) != count:
        raise ModelFileError(
            f"{path} is one of {count} parts of a model, which its name does not say: call the "
            f"parts NAME-00001-of-{count:05}.gguf and so on, as they were when they were made."
        )
    paths = [path.with_name(name) for name in names]
    missing = [part.name for part in paths if not part.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more are" if len(missing) > 1 else " is"
        raise ModelFileError(
            f"{path} is one of {count} parts of a model, and {missing[0]}{more} not beside it: "
            "put all parts into one folder, or fetch the model again."
        )
    headers = [read(part) for part in paths]
    tensors: list[Tensor] = []
    for number, (part, header) in enumerate(zip(paths, headers, strict=True)):
        if parts_of(header.metadata) != count or header.metadata.get("split.no") != number:
            raise _foreign(part, path)
        tensors += [replace(tensor, part=number) for tensor in header.tensors]
    _check_belong(paths, headers[0].metadata, tensors)
    return paths, replace(headers[0], tensors=tensors)


def _check_belong(
    paths: Sequence[Path], metadata: Mapping[str, Any], tensors: Sequence[Tensor]
) -> None:
    """Raise ModelFileError where a part has what the first does not promise."""
    seen: set[str] = set()
    architecture = metadata.get("general.architecture")
    blocks = metadata.get(f"{architecture}.block_count")
    width = metadata.get(f"{architecture}.embedding_length")
    for tensor in tensors:
        norm = _NORM.fullmatch(tensor.name)
        beyond = norm and isinstance(blocks, int) and int(norm[1]) >= blocks
        other = norm and isinstance(width, int) and tensor.shape != (width,)
        if tensor.name in seen or beyond or other:
            raise _foreign(paths[tensor.part], paths[0])
        seen.add(tensor.name)
    promised = metadata.get("split.tensors.count")
    if isinstance(promised, int) and promised != len(tensors):
        raise ModelFileError(
            f"{paths[0]} and its other parts have {len(tensors)} tensors together instead of "
            f"{promised}: one of them belongs to another model; fetch the model again."
        )


def _foreign(part: Path, path: Path) -> ModelFileError:
    return ModelFileError(
        f"{part} is a part of another model than {path.name}: put the parts of one model into a "
        "folder of their own, or fetch the model again."
    )
