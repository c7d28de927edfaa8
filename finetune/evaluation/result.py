"""What an evaluation leaves: a folder that says what was measured, with what, and what came out."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from openchat_local.finetune.evaluation.contender import Contender
from openchat_local.finetune.evaluation.rows import file_digest

_PACKAGES = ("openchat-local", "llama-cpp-python", "numpy", "torch", "transformers", "mlx")


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it is shown: text, columns whose cells are all numbers to the right."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture named `name` (a file's stem) as SVG text, and as the bytes of a PNG file."""

    name: str
    caption: str
    svg: str
    png: bytes | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """An evaluation that is done.

    `kind` is the command's word, `title` says what was measured in a line. `summary` holds every
    figure as JSON, `rows` one JSON object for each that was measured; `sentences` say what it
    means, `notes` what a reader should know of how it came about, such as what was left out.
    """

    kind: str
    title: str
    made_by: Mapping[str, Any]
    summary: Mapping[str, Any]
    sentences: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    notes: Sequence[str] = ()
    rows: Iterable[Mapping[str, Any]] = field(default_factory=tuple)


def made_by(
    kind: str,
    contenders: Sequence[Contender] = (),
    files: Sequence[Path] = (),
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What produced a result: versions, hashes, settings; nothing of this machine's folders.

    Raises OSError where a file cannot be read.
    """
    return {
        "kind": kind,
        "contenders": [one.as_json() for one in contenders],
        "files": dict(zip(_names(files), map(file_digest, files), strict=True)),
        "settings": dict(settings or {}),
        "versions": dict(_versions()),
    }


def summary_of(result: Result) -> dict[str, Any]:
    """What summary.json holds, and a program gets: the figures, and the sentences."""
    return {
        "kind": result.kind,
        "title": result.title,
        **result.summary,
        "sentences": list(result.sentences),
        "notes": list(result.notes),
    }


def without_nan(value: Any) -> Any:
    """`value` with None in place of what JSON has no number for."""
    if isinstance(value, dict):
        return {name: without_nan(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _names(files: Sequence[Path]) -> list[str]:
    """A name for each file: its own, with its folder's where several have it, and its number
    where that is not enough."""
    for names in ([path.name for path in files], ["/".join(path.parts[-2:]) for path in files]):
        if len({*names}) == len(names):
            return names
    return [f"{path.name} ({number})" for number, path in enumerate(files, 1)]


def _versions() -> Iterable[tuple[str, str]]:
    yield "python", platform.python_version()
    for name in _PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue
