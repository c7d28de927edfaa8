"""The adapters installed on this machine: one folder each, under a name.

NAME/adapter.gguf   what chat loads
NAME/peft/          the same as PEFT safetensors, if it was added with them
NAME/card.json      what is known of its training beside what the GGUF file says
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openchat_local.models.errors import AdapterError
from openchat_local.models.library.adapter_file import FILE_NAME, AdapterFile, read_adapter
from openchat_local.models.system.atomic import others_in, replacing, replacing_folder
from openchat_local.models.system.names import is_folder_name

NO_ADAPTER = "none"
CARD = "card.json"
SCALE = "scale"
_HALF = re.compile(rf"\.{re.escape(CARD)}\.\d+\.part")  # what a kill leaves of a card


@dataclass(frozen=True, slots=True)
class InstalledAdapter:
    """An adapter by its name. `peft` is its PEFT folder or None; `facts` are card.json."""

    name: str
    folder: Path
    file: AdapterFile
    peft: Path | None
    facts: Mapping[str, Any]

    @property
    def path(self) -> Path:
        return self.folder / FILE_NAME


class AdapterLibrary:
    """The adapters in `folder`, which need not exist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """The installed adapters, in alphabetical order."""
        if not self.folder.is_dir():
            return []
        found = (path.parent.name for path in self.folder.glob(f"*/{FILE_NAME}"))
        return sorted(name for name in found if _is_valid(name))

    def info(self, name: str) -> InstalledAdapter:
        """What is known of an adapter. Raises AdapterError or ModelFileError."""
        folder = self.existing(name)
        peft = folder / "peft"
        return InstalledAdapter(
            name,
            folder,
            read_adapter(folder / FILE_NAME),
            peft if peft.is_dir() else None,
            _read_facts(folder / CARD),
        )

    def facts(self, name: str) -> Mapping[str, Any]:
        """What its card says, whatever became of its file. Raises AdapterError."""
        return _read_facts(self.existing(name) / CARD)

    def add(
        self,
        name: str,
        gguf: Path,
        *,
        peft: Path | None = None,
        facts: Mapping[str, Any] | None = None,
        replace: bool = False,
    ) -> InstalledAdapter:
        """Copy an adapter in, whole or not at all. Raises AdapterError where there is one of
        that name already, unless `replace`; ModelFileError where the file is damaged."""
        check_name(name)
        target = self.folder / name
        if target.exists() and not replace:
            raise AdapterError(
                f"There is an adapter named {name} already: choose another name, or remove it "
                f"with openchat-local adapters remove {name}."
            )
        read_adapter(gguf)
        _refuse_others(target)
        try:
            with replacing_folder(target) as part:
                shutil.copyfile(gguf, part / FILE_NAME)
                if peft is not None:
                    shutil.copytree(peft, part / "peft")
                (part / CARD).write_text(_as_text(dict(facts or {})), encoding="utf-8")
        except OSError as error:
            raise AdapterError(
                f"The adapter {name} cannot be kept in {self.folder} ({error.strerror or error}): "
                "make room or make it writable, and try again."
            ) from error
        return self.info(name)

    def note(self, name: str, facts: Mapping[str, Any]) -> None:
        """Add `facts` to its card, in place of what is there under the same keys; None takes one
        away. Raises AdapterError."""
        path = self.existing(name) / CARD
        known = {k: v for k, v in (_read_facts(path) | dict(facts)).items() if v is not None}
        try:
            with replacing(path) as part:
                part.write_text(_as_text(known), encoding="utf-8")
        except OSError as error:
            raise AdapterError(
                f"{path} cannot be written ({error.strerror or error}): make room or make it "
                "writable, and try again."
            ) from error

    def scale(self, name_or_path: str) -> float:
        """What the effect of an installed adapter is multiplied by, which its owner chose; 1.0
        where they did not, and of every other file."""
        if not _is_valid(name_or_path):
            return 1.0
        scale = _read_facts(self.folder / name_or_path / CARD).get(SCALE, 1.0)
        known = isinstance(scale, int | float) and math.isfinite(scale) and scale > 0
        return float(scale) if known else 1.0

    def check_removable(self, name: str) -> Path:
        """The folder that `remove` would take. Raises AdapterError where it holds other things."""
        folder = self.existing(name)
        _refuse_others(folder)
        return folder

    def remove(self, name: str) -> None:
        """Delete an adapter for good. Raises AdapterError."""
        folder = self.check_removable(name)
        try:
            (folder / FILE_NAME).unlink()  # first, so that half an adapter is none
            shutil.rmtree(folder)
        except OSError as error:
            raise AdapterError(
                f"The adapter {name} cannot be removed ({error.strerror}): "
                f"delete the folder {folder} by hand."
            ) from error

    def resolve(self, name_or_path: str) -> Path:
        """The GGUF file behind a name, a path, or the folder of a training run.

        Raises AdapterError; whether the file is any good is not checked here.
        """
        if _is_valid(name_or_path) and (path := self.folder / name_or_path / FILE_NAME).is_file():
            return path
        with suppress(OSError, RuntimeError, ValueError):  # too long; "~somebody"; a NUL
            path = Path(name_or_path).expanduser()
            if path.is_dir() and (path / FILE_NAME).is_file():
                return (path / FILE_NAME).absolute()
            if path.is_file() or path.suffix == ".gguf" or len(path.parts) > 1:
                return path.absolute()
        raise self._unknown(name_or_path)

    def existing(self, name: str) -> Path:
        """The folder of an installed adapter. Raises AdapterError."""
        if not _is_valid(name) or not (self.folder / name / FILE_NAME).is_file():
            raise self._unknown(name)
        return self.folder / name

    def _unknown(self, name: str) -> AdapterError:
        names = self.names()
        known = f"there are {', '.join(names)}" if names else "none is installed yet"
        return AdapterError(
            f"There is no adapter named {name!r} ({known}): name one of these, a .gguf file, "
            f"or {NO_ADAPTER!r} for the model as it is."
        )


def check_name(name: str) -> None:
    """Raise AdapterError unless an adapter may be called `name`."""
    if not _is_valid(name):
        raise AdapterError(
            f"An adapter cannot be named {name!r}: use up to 64 letters, digits, dots, dashes "
            f"and underscores, a letter or digit first, and not {NO_ADAPTER!r}."
        )


def _refuse_others(folder: Path) -> None:
    """Raise AdapterError where an adapter's folder, about to go, holds what is not its own."""
    others = [
        name for name in others_in(folder, (FILE_NAME, CARD, "peft")) if not _HALF.fullmatch(name)
    ]
    if others:
        raise AdapterError(
            f"{folder} holds {', '.join(others)}, which no adapter brought: move that away first."
        )


def name_for(stem: str) -> str:
    """A name that an adapter may have and that is like `stem`, which may be any text."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("-._")[:64]
    while name != (name := name.removesuffix(".gguf").rstrip("-._")):
        pass
    if not name:
        return "adapter"
    return name if _is_valid(name) else f"adapter-{name}"[:64].rstrip("-._")


def _is_valid(name: str) -> bool:
    return is_folder_name(name) and name.lower() != NO_ADAPTER


def _as_text(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, indent=2, ensure_ascii=False) + "\n"


def _read_facts(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}  # nothing that chat or export needs is in it
    return facts if isinstance(facts, dict) else {}
