"""The prompts of a file: all of them, those of a category, or the first few.

JSON is one value a line, or one list; `prompt_rows` says what a value may be, or a row of a table.
A file is plain lines where its name does not end in .json, .jsonl, .ndjson or .csv, and it does
not begin as JSON or Parquet does: every line is a prompt then, and blank ones are none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from openchat_local.finetune.data.containers.json_list import BOM
from openchat_local.finetune.data.faults import DataError, Fault, Faults, Places
from openchat_local.finetune.data.kinds import is_table_by_name, kind_of, open_lines
from openchat_local.finetune.data.line import MAX_LINE, Line
from openchat_local.finetune.data.lines import places_of, read_lines, refuse_unreadable
from openchat_local.finetune.evaluation.compare.prompt_rows import Prompt, read_prompt

_JSON_NAMES = frozenset({".json", ".jsonl", ".ndjson"})
_JSON_LIST = re.compile(rb"\[\s*[{\"]")
_HEAD = 2**16  # bytes that tell JSON from lines


@dataclass(frozen=True, slots=True)
class PromptFile:
    """The prompts of a file that are asked, in its order; `notes` are sentences on what is not."""

    path: Path
    prompts: tuple[Prompt, ...]
    notes: tuple[str, ...] = ()


def read_prompts(
    path: Path, *, limit: int | None = None, categories: Sequence[str] = ()
) -> PromptFile:
    """The prompts in `path`, of `categories` alone if any are named; the first `limit` of them.

    Raises DataError: with every row that is wrong, its line and its field; and where nothing is
    left to ask.
    """
    if str(path) == "-":
        raise DataError(
            "Prompts are read from a file, since the same ones are asked again when the command "
            "goes on: write them into one, and name that."
        )
    refuse_unreadable(path)
    as_json = _is_json(path)
    faults = Faults(path, places=places_of(path) if as_json else Places())
    found: list[Prompt] = []
    for row in read_lines(path) if as_json else _plain_lines(path):
        read = [row] if isinstance(row, Fault) else read_prompt(row)
        if isinstance(read, Prompt):
            found.append(read)
        else:
            faults.add(read)
    for fault in _taken_names(found):
        faults.add([fault])
    if faults:
        raise DataError(
            f"Nothing was asked: mend {_counted(faults.lines, faults.unit)} of {path}:",
            [f"{path}, {text}" for text in faults.listing()],
        )
    if not found:
        raise DataError(f"{path} holds no prompt: write one a line, as text or as JSON.")
    kept, notes = _without_doubles(found, faults.unit)
    return PromptFile(path, _chosen(path, kept, limit, categories), tuple(notes))


def _plain_lines(path: Path) -> Iterator[Line | Fault]:
    with open_lines(path) as file:
        number = 0
        while data := file.readline(MAX_LINE + 1):
            number += 1
            if len(data) > MAX_LINE:
                raise DataError(
                    f"{path}, line {number} is longer than {MAX_LINE >> 20} MiB, which no model "
                    "reads: is it a file of prompts?"
                )
            try:
                text = data.removeprefix(BOM).decode() if number == 1 else data.decode()
            except UnicodeDecodeError as error:
                yield Fault(number, "", "is not UTF-8", f"byte {error.start + 1:,}")
                continue
            if text.strip():
                yield Line(number, text.rstrip("\r\n"))


def _is_json(path: Path) -> bool:
    if path.suffix.lower() in _JSON_NAMES or path.is_dir() or is_table_by_name(path):
        return True
    if kind_of(path).form == "columns":
        return True
    head = b""
    with open_lines(path) as file:  # it knows what other encodings begin with
        while len(head) < _HEAD and (line := file.readline(_HEAD)):
            head += line
    head = head.removeprefix(BOM).lstrip()
    if _JSON_LIST.match(head):
        return True
    try:
        return isinstance(json.loads(head.partition(b"\n")[0]), dict)
    except (ValueError, RecursionError):
        return False


def _taken_names(prompts: Sequence[Prompt]) -> Iterator[Fault]:
    first: dict[str, int] = {}
    for prompt in prompts:
        if prompt.name and first.setdefault(prompt.name, prompt.line) != prompt.line:
            where = f"{prompt.name}, {first[prompt.name]}"
            yield Fault(prompt.line, "", "has the id of an earlier row", where)


def _without_doubles(prompts: Sequence[Prompt], unit: str) -> tuple[list[Prompt], list[str]]:
    """A prompt that is asked twice would count twice."""
    first: dict[str, Prompt] = {}
    doubles = [
        prompt for prompt in prompts if first.setdefault(prompt.digest, prompt) is not prompt
    ]
    if not doubles:
        return [*prompts], []
    shown = ", ".join(str(prompt.line) for prompt in doubles[:5])
    more = f" and {len(doubles) - 5:,} more" if len(doubles) > 5 else ""
    note = f"Prompts that stand there twice, asked once: {unit} {shown}{more}."
    return [*first.values()], [note]


def _chosen(
    path: Path, prompts: Sequence[Prompt], limit: int | None, categories: Sequence[str]
) -> tuple[Prompt, ...]:
    known = dict.fromkeys(prompt.category for prompt in prompts if prompt.category)
    folded = {name.casefold() for name in known}
    for name in categories:
        if name.casefold() not in folded:
            there = f"there are {', '.join(known)}" if known else "its prompts name none"
            raise DataError(f"No prompt of {path} is of the category {name!r}; {there}.")
    wanted = {name.casefold() for name in categories}
    kept = [prompt for prompt in prompts if not wanted or prompt.category.casefold() in wanted]
    return tuple(kept[:limit])


def _counted(lines: int, unit: str) -> str:
    return f"{lines:,} {unit}{'s' * (lines != 1)}"
