"""A run's directory: settings, metrics, checkpoints; everything in it is whole or not there.

run.json          every setting, hashes, versions
metrics.jsonl     one line a step or validation
checkpoints/      step-000040/ {state.npz, progress.json}
adapter/          PEFT safetensors
adapter.gguf
report.html
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openchat_local.models.atomic import replacing, sync_folder
from openchat_local.models.errors import OpenChatError
from openchat_local.models.file_lock import try_lock

KEPT_CHECKPOINTS = 2
HOLD_SECONDS = 10.0
_CHECKPOINT = re.compile(r"step-(\d{6,})")


class RunError(OpenChatError):
    """A run's directory cannot be used."""


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


class RunDirectory:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, settings: Mapping[str, Any]) -> RunDirectory:
        """Make the directory with its run.json. Raises RunError if there is a run in it."""
        run = cls(path)
        if run.settings_path.exists():
            raise RunError(
                f"{path} holds a run already: go on with it by --resume, or choose another --out."
            )
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            run.checkpoints_path.mkdir(exist_ok=True)
            run.write_settings(settings)
        except OSError as error:
            raise RunError(
                f"The run cannot be kept in {path} ({error.strerror}): choose another --out."
            ) from error
        return run

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """An existing run. Raises RunError if there is none."""
        run = cls(path)
        if not run.settings_path.is_file():
            raise RunError(f"There is no run in {path}: name the folder that holds its run.json.")
        return run

    @property
    def settings_path(self) -> Path:
        return self.path / "run.json"

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints_path(self) -> Path:
        return self.path / "checkpoints"

    def settings(self) -> dict[str, Any]:
        """What run.json says. Raises RunError when it cannot be read."""
        try:
            settings: dict[str, Any] = json.loads(self.settings_path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(
                f"{self.settings_path} cannot be read ({error}): start a new run."
            ) from error
        return settings

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
        write_atomically(self.settings_path, text.encode())

    @contextmanager
    def held(self) -> Iterator[None]:
        """One process at a time may be here: two would write one another's metrics.

        A process that is about to end is waited for. Raises RunError if it does not.
        """
        deadline = time.monotonic() + HOLD_SECONDS
        while (descriptor := try_lock(self.path / "lock")) is None:
            if time.monotonic() > deadline:
                raise RunError(
                    f"Another process is training the run in {self.path}: stop that one, or wait "
                    "for its end."
                )
            time.sleep(0.05)
        try:
            yield
        finally:
            os.close(descriptor)

    # Metrics

    def add_metrics(self, record: Mapping[str, Any]) -> int:
        """Append one line; the length of the file after it, in bytes."""
        with self.metrics_path.open("ab") as file:
            file.write(json.dumps(record).encode() + b"\n")
            return file.tell()

    def cut_metrics(self, length: int) -> None:
        """Drop the lines that were written after a checkpoint."""
        if self.metrics_path.exists():
            with self.metrics_path.open("rb+") as file:
                file.truncate(length)

    def metrics(self) -> Iterator[dict[str, Any]]:
        """The lines so far; one cut short by a kill is left out."""
        if not self.metrics_path.exists():
            return
        with self.metrics_path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield json.loads(line)

    # Checkpoints

    def save(self, checkpoint: Checkpoint, name: str | None = None) -> Path:
        """Write a checkpoint, named after its step unless `name` is given; older ones go.

        A checkpoint is written beside its place, synced, and renamed: whatever kills the
        run, what bears the name is whole.
        """
        folder = self.checkpoints_path
        target = folder / (name or f"step-{checkpoint.progress.step:06d}")
        part = folder / f"{target.name}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        _write_synced(part / "state.npz", _pack(checkpoint.state))
        progress = json.dumps(asdict(checkpoint.progress))
        _write_synced(part / "progress.json", progress.encode())
        sync_folder(part)
        old = folder / f"{target.name}.old"
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            target.rename(old)
        part.rename(target)
        sync_folder(folder)
        shutil.rmtree(old, ignore_errors=True)
        for number in self._steps()[:-KEPT_CHECKPOINTS]:
            shutil.rmtree(folder / f"step-{number:06d}", ignore_errors=True)
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
        folder = self.checkpoints_path / name
        if not folder.exists() and (old := folder.with_name(f"{name}.old")).exists():
            folder = old  # killed between the two renames of a replacement
        try:
            progress = Progress(**json.loads((folder / "progress.json").read_text("ascii")))
            with np.load(folder / "state.npz", allow_pickle=False) as file:
                return Checkpoint(progress, {key: file[key] for key in file.files})
        except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile):
            return None

    def _steps(self) -> list[int]:
        if not self.checkpoints_path.is_dir():
            return []
        matches = (_CHECKPOINT.fullmatch(path.name) for path in self.checkpoints_path.iterdir())
        return sorted(int(match[1]) for match in matches if match)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file at `path` by `data`, or leave it as it was."""
    with replacing(path) as part:
        part.write_bytes(data)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _pack(state: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **state)  # type: ignore[arg-type]
    return buffer.getvalue()
