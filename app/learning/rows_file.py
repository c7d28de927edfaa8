"""Rows and pairs as files: what `finetune` reads, and what other trainers read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_local.models.errors import OpenChatError
from openchat_local.models.system.atomic import replacing

if TYPE_CHECKING:
    from openchat_local.app.learning.feedback import Lesson, LessonTurn, Pair

ROWS_IN_RUN = Path("data", "chats.jsonl")
"""Where in its folder a run keeps the rows that it was trained on: they go when the run does."""


class RowsFileError(OpenChatError):
    """Rows cannot be written, or a file to mix in cannot be read."""


def row_of(lesson: Lesson) -> dict[str, Any]:
    """A row in OpenAI's form, with its class, condition and reward."""
    row: dict[str, Any] = {"messages": [*_system(lesson.system_prompt), *_turns(lesson.turns)]}
    row["class"] = lesson.class_name
    if lesson.condition is not None:
        row["condition"] = lesson.condition
    row["reward"] = lesson.reward
    return row


def pair_of(pair: Pair) -> dict[str, Any]:
    """A pair in TRL's conversational form."""
    prompt = [{"role": turn.role, "content": turn.content} for turn in pair.turns]
    return {
        "prompt": [*_system(pair.system_prompt), *prompt],
        "chosen": [{"role": "assistant", "content": pair.chosen.content}],
        "rejected": [{"role": "assistant", "content": pair.rejected.content}],
    }


def lines_of(lessons: Iterable[Lesson]) -> Iterator[str]:
    """A line of JSON for each row."""
    return (_line(row_of(lesson)) for lesson in lessons)


def write_lessons(
    path: Path, lessons: Sequence[Lesson], more: Iterable[Mapping[str, Any]] = ()
) -> None:
    """Write the new file `path`, its owner's alone and whole or not at all: a line for each row,
    then the rows that are mixed in. Raises RowsFileError, and what `more` raises."""
    _write(path, chain(lines_of(lessons), map(_line, more)))


def write_into_run(
    run: Path, lessons: Sequence[Lesson], more: Iterable[Mapping[str, Any]] = ()
) -> Path:
    """`write_lessons` into the folder of a run that has just begun: the file, which its settings
    name as the data and which is deleted with the run. Raises as `write_lessons` does."""
    path = run / ROWS_IN_RUN
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    write_lessons(path, lessons, more)
    return path


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    """Write the new file `path`, its owner's alone, a pair a line. Raises RowsFileError."""
    _write(path, (_line(pair_of(pair)) for pair in pairs))


def refuse_existing(path: Path) -> None:
    """Raise RowsFileError where there is something of this name: nothing is written over."""
    if os.path.lexists(path):
        raise _there_already(path)


def _system(prompt: str) -> list[dict[str, Any]]:
    return [{"role": "system", "content": prompt}] if prompt else []


def _turns(turns: Iterable[LessonTurn]) -> Iterator[dict[str, Any]]:
    for turn in turns:
        row: dict[str, Any] = {"role": turn.role, "content": turn.content}
        if turn.role == "assistant" and turn.weight is not None:
            row["weight"] = turn.weight
        yield row


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _write(path: Path, lines: Iterable[str]) -> None:
    refuse_existing(path)
    try:
        with replacing(path, new=True) as part:
            # Its owner's from the first byte on; Windows has the folder's list instead.
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
                file.writelines(lines)
    except FileExistsError:
        raise _there_already(path) from None
    except OSError as error:
        raise _unwritable(path, error) from error


def _there_already(path: Path) -> RowsFileError:
    return RowsFileError(f"{path} is there already; choose another name.")


def _unwritable(path: Path, error: OSError) -> RowsFileError:
    return RowsFileError(
        f"{path} cannot be written ({error.strerror or error}); make room, or choose another place."
    )
