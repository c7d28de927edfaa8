"""Checkpoints of a run: a trainer's state, and how far the run was; whole or not there.

step-000040/ {state.npz, progress.json}, and best/ like it
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from openchat_local.models.system.atomic import sync_folder

if TYPE_CHECKING:
    import numpy as np

KEPT_CHECKPOINTS = 2
STATE, PROGRESS = "state.npz", "progress.json"
_CHECKPOINT = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands after `step` optimizer steps.

    `epoch` and `position` (steps done within it) say what data comes next. `best_loss` is
    the lowest validation loss so far, at `best_step`; `stale` counts the validations since.
    `rollbacks` and `rate_factor` remember what non-finite losses have cost.
    `metrics_bytes` is the length of metrics.jsonl, so that a resumed run cuts off what it
    is about to write again. `seconds` is the training time so far.
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    best_loss: float | None = None
    best_step: int | None = None
    stale: int = 0
    rollbacks: int = 0
    rate_factor: float = 1.0
    metrics_bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trainer's state, by name, and how far the run was."""

    progress: Progress
    state: Mapping[str, np.ndarray]


class Checkpoints:
    """Those in a folder, which is made when the first one is saved."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, checkpoint: Checkpoint, name: str | None = None) -> Path:
        """Write a checkpoint, named after its step unless `name` is given; older ones go.

        A checkpoint is written beside its place, synced, and renamed: whatever kills the
        run, what bears the name is whole.
        """
        folder = self.folder
        target = folder / (name or f"step-{checkpoint.progress.step:06d}")
        part = folder / f"{target.name}.part"
        _remove_checkpoint(part, target)
        part.mkdir(parents=True, exist_ok=True)
        _write_synced(part / STATE, _pack(checkpoint.state))
        progress = json.dumps(asdict(checkpoint.progress))
        _write_synced(part / PROGRESS, progress.encode())
        sync_folder(part)
        old = folder / f"{target.name}.old"
        _remove_checkpoint(old, target)
        if target.exists():
            target.rename(old)
        part.rename(target)
        sync_folder(folder)
        _remove_checkpoint(old, target)
        for number in self._steps()[:-KEPT_CHECKPOINTS]:
            _remove_checkpoint(folder / f"step-{number:06d}")
        return target

    def latest(self) -> Checkpoint | None:
        """The newest whole checkpoint."""
        for number in reversed(self._steps()):
            checkpoint = self.load(f"step-{number:06d}")
            if checkpoint is not None:
                return checkpoint
        return None

    def load(self, name: str) -> Checkpoint | None:
        """The checkpoint called `name`, or None if it is not there or not readable."""
        import numpy as np

        folder = self.folder / name
        if not folder.exists() and (old := folder.with_name(f"{name}.old")).exists():
            folder = old  # killed between the two renames of a replacement
        try:
            progress = Progress(**json.loads((folder / PROGRESS).read_text("ascii")))
            with np.load(folder / STATE, allow_pickle=False) as file:
                return Checkpoint(progress, {key: file[key] for key in file.files})
        except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile):
            return None

    def _steps(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        matches = (_CHECKPOINT.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in matches if match)


def _remove_checkpoint(folder: Path, successor: Path | None = None) -> None:
    """Remove its two files, and the folder unless somebody put something else into it, which
    moves into `successor` if that is there."""
    with suppress(OSError):
        for name in (STATE, PROGRESS):
            (folder / name).unlink(missing_ok=True)
        if successor is not None and successor.is_dir():
            for other in list(folder.iterdir()):
                if not os.path.lexists(successor / other.name):
                    other.rename(successor / other.name)
        folder.rmdir()


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _pack(state: Mapping[str, np.ndarray]) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    np.savez(buffer, **state)  # type: ignore[arg-type]
    return buffer.getvalue()
