"""A result as a folder: whole or not there, and never in place of anything else."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from openchat_local.finetune.evaluation.page import render_page
from openchat_local.finetune.evaluation.result import Result, summary_of
from openchat_local.models.errors import OpenChatError
from openchat_local.models.system.atomic import others_in, replacing_folder, sync_folder

MADE_BY, ROWS, SUMMARY, REPORT = "made_by.json", "rows.jsonl", "summary.json", "report.html"
PICTURES = "pictures"  # in made_by.json: which files of the folder are such
LADDER = "ladder.md"
KEPT = "runs"  # a folder that a result may have beside these: it stays when it is written anew


class ResultError(OpenChatError):
    """A result that cannot be kept where it should be."""


def write_result(folder: Path, result: Result) -> Path:
    """Write `result` as `folder`, whole or not at all; its report.

    A result that is there is replaced, but for what is in its folder `runs`. Raises ResultError
    where the folder holds anything else, or cannot be written.
    """
    check_folder(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if (folder / KEPT).is_dir():
            _write_beside_runs(folder, result)
        else:
            with replacing_folder(folder) as part:
                _write_files(part, result)
    except OSError as error:
        raise ResultError(
            f"The result cannot be written to {folder} ({error.strerror or error}): make room, or "
            "choose another folder with --out; what was measured is kept."
        ) from error
    return folder / REPORT


def _write_files(part: Path, result: Result) -> None:
    pictures = {f"{one.name}.svg": one.svg.encode() for one in result.pictures}
    pictures |= {f"{one.name}.png": one.png for one in result.pictures if one.png is not None}
    kept = [dict(row) for row in result.rows]
    with (part / ROWS).open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
    _write_json(part / MADE_BY, {**result.made_by, PICTURES: sorted(pictures)})
    _write_json(part / SUMMARY, summary_of(result))
    for name, data in pictures.items():
        (part / name).write_bytes(data)
    (part / REPORT).write_text(render_page(result, kept), encoding="utf-8")


def _write_beside_runs(folder: Path, result: Result) -> None:
    """Replace the result a file at a time: hours of work may be in its runs, which are not moved
    where a kill or a full disk could strand them."""
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        _write_files(Path(scratch), result)
        # First what says that all else in the folder is a result's.
        new = sorted(Path(scratch).iterdir(), key=lambda path: path.name != MADE_BY)
        for path in _additions(folder) if (folder / MADE_BY).is_file() else ():
            path.unlink()
        for path in new:
            os.replace(path, folder / path.name)
    sync_folder(folder)


def _additions(folder: Path) -> list[Path]:
    """What a result has beside the four files that each has: the pictures that it names as its
    own, and its tables as Markdown. Another picture in its folder is somebody's."""
    try:
        named = json.loads((folder / MADE_BY).read_text(encoding="utf-8"))[PICTURES]
    except (OSError, ValueError, KeyError, TypeError):
        named = []
    return [path for path in folder.iterdir() if path.name in (*named, LADDER)]


def check_folder(folder: Path) -> None:
    """Raise ResultError unless a result may be written as `folder`: there is nothing, or an
    empty folder, or a result."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ResultError(f"{folder} is a file: choose a folder with --out.")
    pictures = [path.name for path in _additions(folder)]
    strangers = others_in(folder, {MADE_BY, ROWS, SUMMARY, REPORT, KEPT, *pictures})
    whole = (folder / SUMMARY).is_file() or (folder / KEPT).is_dir()
    mine = (folder / MADE_BY).is_file() and whole
    runs_alone = others_in(folder, {KEPT}) == []
    if strangers or not (mine or runs_alone):
        there = ", ".join((strangers or pictures)[:3])
        raise ResultError(
            f"{folder} holds something else ({there}): choose another folder with --out."
        )


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
