"""Files of conversations that are trained on together with those of chats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from openchat_local.finetune.data.faults import Fault, Faults, refuse
from openchat_local.finetune.data.formats import UNLABELLED, read_example
from openchat_local.finetune.data.lines import read_lines, unit_of


def mixed_rows(
    files: Sequence[Path], class_field: str | None = None, *, skip_bad: bool = False
) -> list[dict[str, Any]]:
    """The conversations of these files as they are written there, their class in "class".

    Raises DataError where a file cannot be read and, unless `skip_bad`, with every fault.
    """
    rows: list[dict[str, Any]] = []
    faults = [Faults(file, unit=unit_of(file)) for file in files]
    for file, found in zip(files, faults, strict=True):
        rows += _rows(file, class_field, found)
    if not skip_bad:
        refuse(*faults)
    return rows


def _rows(file: Path, class_field: str | None, faults: Faults) -> Iterator[dict[str, Any]]:
    for line in read_lines(file):
        if isinstance(line, Fault):
            faults.add([line])
            continue
        example = read_example(line, class_field)
        if isinstance(example, list):
            faults.add(example)
        elif example.class_name == UNLABELLED:
            yield line.value
        else:
            yield line.value | {"class": example.class_name}
