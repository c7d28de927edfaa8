"""A run's directory: settings, metrics, checkpoints; everything in it is whole or not there.

run.json          every setting, hashes, versions
metrics.jsonl     one line a step or validation
checkpoints/      step-000040/ {state.npz, progress.json}
data/             weighted token rows; chats.jsonl, where they were made of one's own chats
adapter/          PEFT safetensors
adapter.gguf
report.html
events.jsonl      what a run in the background has told; background.log: what went wrong with it
pause.asked, stop.asked

`ownership` knows these names; whatever else is in the folder is not the run's.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openchat_local.finetune.run.checkpoints import Checkpoints
from openchat_local.finetune.run.ownership import LOCK, TOP, own_files
from openchat_local.models.errors import OpenChatError
from openchat_local.models.system.atomic import replacing
from openchat_local.models.system.file_lock import try_lock

HOLD_SECONDS = 10.0
TRYING = "trying"  # in run.json: the plan whose costliest batch is being tried


class RunError(OpenChatError):
    """A run's directory cannot be used."""


class RunDirectory:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(
        cls, path: Path, settings: Mapping[str, Any], *, among: bool = False
    ) -> RunDirectory:
        """Make the directory with its run.json, in which the run gets an `id` of its own.

        The folder may be there and hold other things. Raises RunError if one of them is a run,
        or has a name that a run needs; with `among`, its folders may be there with others' files.
        """
        run = cls(path)
        run._refuse_what_is_there(among)
        ours = False
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            with run.settings_path.open("x", encoding="utf-8") as file:
                ours = True
                file.write(_as_text({"id": uuid.uuid4().hex} | dict(settings)))
            run.checkpoints.folder.mkdir(exist_ok=among)
        except OSError as error:
            if ours:
                run.settings_path.unlink(missing_ok=True)
            raise RunError(
                f"The run cannot be kept in {path} ({error.strerror}): choose another --out."
            ) from error
        return run

    def _refuse_what_is_there(self, among: bool) -> None:
        if self.settings_path.exists():
            raise RunError(
                f"{self.path} holds a run already: continue it with --resume, replace it with "
                "--replace, or choose another --out."
            )
        taken = [name for name in TOP if name != LOCK and os.path.lexists(self.path / name)]
        if among and not any(path.name != LOCK for path in own_files(self.path)):
            taken = [name for name in taken if not _is_plain_folder(self.path / name)]
        if taken:
            raise RunError(
                f"{self.path} holds {', '.join(taken)}, which a run would write over: name a "
                "folder of its own with --out."
            )

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
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.path / "checkpoints")

    def settings(self) -> dict[str, Any]:
        """What run.json says. Raises RunError when it cannot be read."""
        try:
            settings = json.loads(self.settings_path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(
                f"{self.settings_path} cannot be read ({error}): start a new run."
            ) from error
        if not isinstance(settings, dict):
            raise RunError(f"{self.settings_path} is not that of a run: name another folder.")
        return settings

    def stored(self) -> dict[str, Any]:
        """The same, of a run that training has begun. Raises RunError where another program's
        run.json is there."""
        settings = self.settings()
        if not isinstance(settings.get("settings"), dict) or "name" not in settings:
            raise RunError(f"{self.settings_path} is not that of a run: name another folder.")
        return settings

    @property
    def steps_done(self) -> int:
        """Optimizer steps that a checkpoint keeps; 0 where nothing was learned."""
        checkpoint = self.checkpoints.latest()
        return 0 if checkpoint is None else checkpoint.progress.step

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        write_atomically(self.settings_path, _as_text(settings).encode())

    @contextmanager
    def held(self) -> Iterator[None]:
        """One process at a time may be here: two would write one another's metrics.

        A process that is about to end is waited for. Raises RunError if it does not.
        """
        deadline = time.monotonic() + HOLD_SECONDS
        while (descriptor := try_lock(self.path / LOCK)) is None:
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


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file at `path` by `data`, or leave it as it was."""
    with replacing(path) as part:
        part.write_bytes(data)


def _as_text(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, indent=2, ensure_ascii=False) + "\n"


def _is_plain_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
