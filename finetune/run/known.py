"""The training runs on this machine: what they are, and how one is removed.

A run may have been put into a folder of the user's own (`--out`): only what is a run's goes
(see `ownership`).
"""

from __future__ import annotations

import filecmp
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from openchat_local.finetune.run.directory import RunDirectory, RunError
from openchat_local.finetune.run.ownership import LOCK, own_files, remove_own
from openchat_local.models.library.adapters import InstalledAdapter
from openchat_local.models.system.file_lock import try_lock

State = Literal["finished", "training", "stopped", "damaged"]


@dataclass(frozen=True, slots=True)
class KnownRun:
    """A run in its folder `path`. `begun` is in seconds since 1970, 0 if unknown; `bytes` are
    those of its own files. What run.json does not tell is ""."""

    name: str
    path: Path
    state: State
    model: str
    data: str
    begun: float
    bytes: int


def known_runs(folder: Path, elsewhere: Iterable[Path] = ()) -> list[KnownRun]:
    """The runs in `folder`, which need not exist, and those `elsewhere`; the newest first."""
    found = {path.resolve(): path for path in elsewhere}
    if folder.is_dir():
        found |= {path.resolve(): path for path in folder.iterdir() if path.is_dir()}
    runs = [describe(path) for path in found.values() if (path / "run.json").is_file()]
    return sorted(runs, key=lambda run: (-run.begun, run.name))


def describe(path: Path) -> KnownRun:
    """What the run in `path` tells of itself. Raises RunError if there is none."""
    try:
        settings = RunDirectory.open(path).settings()
        asked = settings["settings"]
        base = settings.get("base") or {}
        return KnownRun(
            name=str(settings["name"]),
            path=path,
            state="finished" if _came_to_an_end(settings.get("outcome")) else _unfinished(path),
            model=str(base.get("name") or Path(asked["base"]).stem),
            data=str(asked["data"]),
            begun=float(settings["begun"]),
            bytes=sum(_size(file) for file in own_files(path)),
        )
    except (RunError, KeyError, TypeError, ValueError, AttributeError):
        if not (path / "run.json").is_file():
            raise
        size = sum(_size(file) for file in own_files(path))
        return KnownRun(path.name, path, "damaged", "", "", 0.0, size)


def noted_place(run: Path, home: Path) -> str:
    """How an adapter's facts name the run that it came from, for `place_of`: a home that is moved
    or copied takes its runs along."""
    run, home = run.absolute(), home.absolute()
    return str(run.relative_to(home) if run.is_relative_to(home) else run)


def place_of(adapter: InstalledAdapter, home: Path) -> Path | None:
    """Where the run of this adapter should be, None if training did not install it."""
    noted = adapter.facts.get("run_folder")
    if noted is None and "settings" in adapter.facts:
        noted = str(Path("runs") / adapter.name)  # installed before the place was noted
    return home / noted if isinstance(noted, str) else None


def run_of(adapter: InstalledAdapter, home: Path) -> Path | None:
    """The folder of the run that this adapter is the outcome of, None where that is not certain.

    It is certain where the run bears the adapter's name, the id that the adapter noted, and
    the same adapter.gguf, byte for byte: a new run in the same place has made another.
    """
    path = place_of(adapter, home)
    if path is None:
        return None
    try:
        settings: Any = json.loads((path / "run.json").read_text("utf-8"))
        same = filecmp.cmp(path / "adapter.gguf", adapter.path, shallow=False)
    except (OSError, ValueError):
        return None
    if not isinstance(settings, dict) or settings.get("name") != adapter.name:
        return None
    noted = adapter.facts.get("run")
    return path if same and noted in (None, settings.get("id")) else None


def check_idle(path: Path) -> None:
    """Raise RunError while a process trains the run in `path`."""
    with _alone(path):
        pass


def remove_run(path: Path) -> tuple[int, list[Path]]:
    """Delete the run in `path` for good: the bytes that this frees, and what stays because no
    run has made it. Raises RunError, also while a process trains it."""
    if not (path / "run.json").is_file():
        raise RunError(f"There is no run in {path}: openchat-local finetune runs lists them.")
    if describe(path).state == "damaged":
        raise RunError(
            f"{path / 'run.json'} does not say that it is a training run's: if it is one, delete "
            f"the folder {path} by hand."
        )
    path = path.resolve()  # of a link, what it points to
    with _alone(path):
        try:
            freed = sum(map(_size, own_files(path)))
            remove_own(path, spare=frozenset({LOCK}))
        except OSError as error:
            raise RunError(
                f"The run in {path} cannot be removed ({error.strerror or error}): delete the "
                "folder by hand."
            ) from error
    with suppress(OSError):  # an empty folder does no harm
        (path / LOCK).unlink(missing_ok=True)
        path.rmdir()
    return freed, sorted(path.iterdir()) if path.is_dir() else []


def _came_to_an_end(outcome: Mapping[str, Any] | None) -> bool:
    """Not where Ctrl-C ended it, though the adapter of what had been learned is kept then."""
    return bool(outcome and outcome.get("ending") != "interrupted")


def _unfinished(path: Path) -> State:
    try:
        with _alone(path):
            return "stopped"
    except RunError as error:
        return "stopped" if isinstance(error.__cause__, OSError) else "training"


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """No process trains the run meanwhile. Raises RunError."""
    lock = path / LOCK
    if not lock.exists():  # no process ever trained it, and a listing writes nothing
        yield
        return
    try:
        descriptor = try_lock(lock)
    except OSError as error:
        raise RunError(f"{lock} cannot be opened ({error.strerror}): make it writable.") from error
    if descriptor is None:
        raise RunError(f"A process trains the run in {path}: stop that one first.")
    try:
        yield
    finally:
        os.close(descriptor)


def _size(file: Path) -> int:
    try:
        return file.lstat().st_size
    except OSError:  # training, which goes on meanwhile, has put another in its place
        return 0
