"""How a run begins in a folder, and how everything is as it was where nothing came of it."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openchat_local.finetune.run.directory import RunDirectory, RunError
from openchat_local.finetune.run.ownership import LOCK, move_own, remove_own
from openchat_local.models.system.file_lock import try_lock

REPLACES = "replaces"
_ASIDE = re.compile(r"replaced-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run that this process began.

    `replaced` is where the run whose place it takes is kept meanwhile, None if there is none;
    `made` are the folders that were made for it, the innermost first, and `spare` the names
    in its own that were there before.
    """

    run: RunDirectory
    id: str
    replaced: Path | None
    made: tuple[Path, ...]
    spare: frozenset[str]

    def discard(self) -> None:
        """Remove what the run wrote, and nothing else; what it was to replace comes back.

        Nobody may be training it any more. Raises OSError.
        """
        path = self.run.path
        if self.run.settings().get("id") != self.id:
            return  # somebody has put another in its place
        remove_own(path, spare=self.spare)
        if self.replaced is not None:
            _put_back(path, self.replaced)
        for folder in self.made:
            with suppress(OSError):  # somebody else's files are in it
                folder.rmdir()


def begin_run(path: Path, settings: Mapping[str, Any], *, replace: bool = False) -> NewRun:
    """Begin a run in the folder `path`; with `replace`, one that is there is kept aside in it
    until `drop_replaced`, or until the new one is discarded.

    Raises RunError where there is a run already and it is not to be replaced or is being
    trained, or where `path` cannot be used.
    """
    path = path.absolute()
    made = tuple(place for place in (path, *path.parents) if not place.exists())
    aside, older = None, []
    if replace and (path / "run.json").exists():
        old = RunDirectory(path)
        older = old.stored().get(REPLACES, [])
        aside = _set_aside(old)
    spare = frozenset({LOCK} if os.path.lexists(path / LOCK) else ())
    names = [aside.name, *older] if aside else []
    try:
        fields = dict(settings) | {REPLACES: names}
        run = RunDirectory.create(path, fields, among=aside is not None)
    except RunError:
        if aside is not None:
            _put_back(path, aside)
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise
    return NewRun(run, run.settings()["id"], aside, made, spare)


def drop_replaced(run: RunDirectory) -> None:
    """The run stands: remove those that it took the place of. Raises OSError."""
    settings = run.settings()
    for name in settings.get(REPLACES, []):
        folder = run.path / name
        if _ASIDE.fullmatch(name) and folder.is_dir() and not folder.is_symlink():
            remove_own(folder)
            with suppress(OSError):
                folder.rmdir()
    if settings.get(REPLACES):
        run.write_settings(settings | {REPLACES: []})


def _set_aside(old: RunDirectory) -> Path:
    """Move the run into a folder within its own; that folder."""
    aside = old.path / f"replaced-{uuid.uuid4().hex[:8]}"
    try:
        descriptor = try_lock(old.path / LOCK)
        if descriptor is None:
            raise RunError(
                f"Another process is training the run in {old.path}: stop that one, or wait for "
                "its end."
            )
        try:
            aside.mkdir(mode=0o700)
            move_own(old.path, aside)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise RunError(
            f"The run in {old.path} cannot be replaced ({error.strerror}): choose another --out."
        ) from error
    return aside


def _put_back(path: Path, aside: Path) -> None:
    move_own(aside, path)
    with suppress(OSError):
        aside.rmdir()
