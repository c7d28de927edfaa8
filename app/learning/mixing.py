"""Files of conversations that are trained on together with those of chats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from openchat_local.finetune.data.example import Example
from openchat_local.finetune.data.examples import read_examples, with_span
from openchat_local.finetune.data.faults import Faults, refuse
from openchat_local.finetune.data.lines import places_of
from openchat_local.finetune.data.reading import PLAIN, Reading


def mixed_rows(
    files: Sequence[Path], reading: Reading = PLAIN, *, skip_bad: bool = False
) -> list[dict[str, Any]]:
    """The conversations of these files as OpenAI messages, their class in "class".

    Raises DataError where a file cannot be read and, unless `skip_bad`, with every fault.
    """
    rows: list[dict[str, Any]] = []
    faults = [Faults(file, places=places_of(file)) for file in files]
    for file, found in zip(files, faults, strict=True):
        rows += _rows(file, reading, found)
    if not skip_bad:
        refuse(*faults)
    return rows


def _rows(file: Path, reading: Reading, faults: Faults) -> Iterator[dict[str, Any]]:
    for found in read_examples(file, with_span(file, reading, _any), _any):
        if isinstance(found, Example):
            yield found.as_row()
        else:
            faults.add(found)


def _any(_: Example) -> None:
    """The template is looked at when training begins."""
