"""What in a folder is a run's own: by name, so that nothing of anybody else's goes with it.

A run may live in a folder where its owner keeps other things, and people put notes beside
checkpoints. Whoever removes or moves a run takes the files below, each by its name, and the
folders only where nothing is left in them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# What a run writes at the top of its folder; it begins only where none of these is.
LOCK = "lock"
EVENTS, LOG = "events.jsonl", "background.log"  # of a run in the background
PAUSE, STOP = "pause.asked", "stop.asked"  # empty, and there while somebody asks for that
TOP = ("run.json", "metrics.jsonl", "checkpoints", "data", "adapter", "adapter.gguf",
       "report.html", LOCK, EVENTS, LOG, PAUSE, STOP)  # fmt: skip

_SCRATCH = re.compile(r"\.adapter-\w+")
_STATE = r"(?:state\.npz|progress\.json)"
_PEFT = r"(?:adapter_model\.safetensors|adapter_config\.json)"
_OWN = re.compile(
    "|".join(
        (
            rf"run\.json|metrics\.jsonl|adapter\.gguf|report\.html|{LOCK}",
            *map(re.escape, (EVENTS, LOG, PAUSE, STOP)),
            r"\.(?:run\.json|adapter\.gguf|report\.html)\.\d+\.part",
            rf"checkpoints/(?:step-\d{{6,}}|best)(?:\.part|\.old)?/{_STATE}",
            r"data/(?:train|validation)/(?:ids\.int32|weights\.float32|index\.npz)",
            r"data/(?:chats\.jsonl|\.chats\.jsonl\.\d+\.part)",  # rows made of one's own chats
            rf"adapter/{_PEFT}",
            rf"\.adapter-\w+/adapter/{_PEFT}",
            r"\.adapter-\w+/\.adapter\.\d+\.part/[\w.]+",
        )
    )
)

_FOLDER = re.compile(
    r"checkpoints(?:/(?:step-\d{6,}|best)(?:\.part|\.old)?)?|data(?:/(?:train|validation))?|adapter"
    rf"|{_SCRATCH.pattern}(?:/adapter|/\.adapter\.\d+\.part)?"
)


def own_files(folder: Path) -> Iterator[Path]:
    """The files in `folder` that a run wrote. Links are followed nowhere."""
    for place, names in _walk(folder):
        for name in names:
            path = place / name
            if _OWN.fullmatch(path.relative_to(folder).as_posix()) and not path.is_symlink():
                yield path


def remove_own(folder: Path, *, spare: frozenset[str] = frozenset()) -> None:
    """Remove a run's files from `folder`, run.json last: half a run can be removed again.

    What is called as in `spare`, at the top, stays. Raises OSError.
    """
    last = folder / TOP[0]
    files = [path for path in own_files(folder) if path != last]
    for path in [*files, last]:
        if path.parent != folder or path.name not in spare:
            path.unlink(missing_ok=True)
    _remove_empty(folder)


def move_own(folder: Path, into: Path) -> None:
    """Move a run's files, but its lock, to the same places in `into`, run.json first: whoever
    is killed here leaves a run that can be recognised. Raises OSError."""
    first = folder / TOP[0]
    files = [path for path in own_files(folder) if path.name != LOCK]
    for path in sorted(files, key=lambda path: path != first):
        target = into / path.relative_to(folder)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.rename(target)
    _remove_empty(folder)


def _remove_empty(folder: Path) -> None:
    """Remove a run's folders within `folder` in which nothing is left."""
    own = [
        place
        for place, _ in _walk(folder)
        if _FOLDER.fullmatch(place.relative_to(folder).as_posix()) and not place.is_symlink()
    ]
    for place in reversed(own):  # the innermost first
        with suppress(OSError):
            place.rmdir()


def _walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """The folders where a run may have written, and the files in each, from outside in."""
    for place, folders, names in os.walk(folder):
        if Path(place) == folder:  # it may be somebody's whole home
            folders[:] = [name for name in folders if name in TOP or _SCRATCH.fullmatch(name)]
        folders.sort()
        yield Path(place), sorted(names)
