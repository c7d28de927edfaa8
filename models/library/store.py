"""The models in a folder, one folder each: the .gguf file, or a link to it, and its card.

NAME@QUANTISATION/file.gguf     copied in, fetched, or a link to another program's file
NAME@QUANTISATION/model.json    the card; without one the model is not installed
.parts/                         downloads that are not finished (see `unfinished`)
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from openchat_local.models.errors import ModelFileError, OpenChatError
from openchat_local.models.gguf import read_gguf
from openchat_local.models.gguf.quantisation import quantisation_in, quantisation_of
from openchat_local.models.gguf.split import without_part
from openchat_local.models.library.card import (
    CARD,
    ModelCard,
    describe,
    read_card,
    timestamp,
    write_card,
)
from openchat_local.models.library.catalog import known_model
from openchat_local.models.library.hashing import Progress, copy_and_hash, sha256_of
from openchat_local.models.library.use import LOCK, in_use
from openchat_local.models.system.atomic import others_in, replacing_folder
from openchat_local.models.system.names import is_folder_name
from openchat_local.models.units import size_in_words

_QUANTISATION = re.compile(r"[A-Za-z0-9_]{1,24}")
_STAGED = re.compile(r"\..+\.(\d+)\.part")


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model in its folder."""

    card: ModelCard
    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / self.card.file

    @property
    def is_link(self) -> bool:
        return self.card.origin == "link"

    def usable_path(self) -> Path:
        """`path`, which is there. Raises ModelFileError where what it links to is gone."""
        if all((self.folder / part.file).is_file() for part in self.card.files):
            return self.path
        what = f"linked to {self.card.source}, which is gone" if self.is_link else "without a file"
        raise ModelFileError(
            f"The model {self.card.reference} is {what}: remove it with openchat-local models "
            f"remove {self.card.reference}, and add or pull it again."
        )


class ModelLibrary:
    """The models in `folder`, which need not exist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def scan(self) -> tuple[list[InstalledModel], list[ModelFileError]]:
        """The installed models in alphabetical order, and what is wrong with the others."""
        models, faults = [], []
        for folder in sorted(self.folder.glob("[!.]*")) if self.folder.is_dir() else []:
            if (folder / CARD).exists():
                try:
                    models.append(self._read(folder))
                except ModelFileError as fault:
                    faults.append(fault)
        return models, faults

    def models(self) -> list[InstalledModel]:
        """The installed models in alphabetical order; damaged cards are left out."""
        return self.scan()[0]

    def find(self, reference: str) -> InstalledModel | None:
        """The model that NAME or NAME:QUANTISATION means, None if it is not installed.

        Of several quantisations a bare name means the one that was there first, so that
        another pull never changes what answers a chat.
        """
        name, quantisation = split_reference(reference)
        if not is_folder_name(name):
            return None
        found = self._called(name)
        if not found and (known := known_model(name)) is not None:
            found = self._called(known.name)
        if quantisation is not None:
            wanted = quantisation.upper()
            found = [m for m in found if m.card.quantisation.upper() == wanted]
        return min(found, key=lambda m: (m.card.added, m.card.quantisation), default=None)

    def existing(self, reference: str) -> InstalledModel:
        """Like `find`. Raises ModelFileError if there is none."""
        model = self.find(reference)
        if model is None:
            names = [m.card.reference for m in self.models()]
            there = f"there are {', '.join(names)}" if names else "none is installed yet"
            raise ModelFileError(
                f"There is no installed model named '{reference}' ({there}): name one of these, "
                "or fetch it with openchat-local models pull."
            )
        return model

    def add(
        self,
        file: Path,
        name: str | None = None,
        *,
        quantisation: str | None = None,
        link: bool = False,
        on_progress: Progress | None = None,
    ) -> InstalledModel:
        """Copy a GGUF file in, or link to it; whole or not at all. `name` and `quantisation`
        default to what the file tells. `on_progress` gets the bytes read so far.

        Raises ModelFileError where the file is not a whole model, a model of that name and
        quantisation is there already, or there is no room.
        """
        header = read_gguf(file.expanduser().absolute())
        file = header.path  # of several parts the first
        name = check_model_name(name or name_from(file.name))
        quantisation = quantisation or quantisation_in(file.name) or quantisation_of(header)
        target = self.place(name, quantisation)
        self.refuse_if_taken(name, quantisation)
        _refuse_others(target, ())
        whole = len(header.parts) == 0
        file_name = (
            file.name if file.suffix == ".gguf" or not whole else f"{name}.{quantisation}.gguf"
        )
        sources = [file] if whole else list(header.parts)
        names = [file_name] if whole else [path.name for path in sources]
        if not link:
            self.check_room(header.file_size)
        origin = "link" if link else "copy"
        try:
            self._sweep()
            with replacing_folder(target) as part:
                hashes, done = [], 0
                for source, target_name in zip(sources, names, strict=True):
                    show = _further(on_progress, done)
                    if link:
                        _link(source, part / target_name)
                        hashes.append(sha256_of(source, show))
                    else:
                        hashes.append(copy_and_hash(source, part / target_name, show))
                    done += source.stat().st_size
                card = describe(
                    header,
                    name,
                    hashes,
                    origin=origin,
                    source=str(file),
                    file_name=file_name,
                    quantisation=quantisation,
                )
                write_card(part, card)
        except OSError as error:
            raise _cannot_keep(name, self.folder, error) from error
        return InstalledModel(card, target)

    def remove(self, model: InstalledModel, *, force: bool = False) -> int:
        """Delete a model for good; the bytes that this frees (none for a link).

        Raises ModelFileError while a process uses it, unless `force`.
        """
        try:
            if not force and in_use(model.folder):
                raise ModelFileError(
                    f"The model {model.card.reference} is in use by another openchat-local: "
                    "close that chat or stop that training, or use --force."
                )
            _refuse_others(model.folder, (CARD, *(part.file for part in model.card.files)))
            freed = 0 if model.path.is_symlink() or model.is_link else model.card.bytes
            (model.folder / CARD).unlink()  # first, so that half a model is none
            shutil.rmtree(model.folder)
        except OSError as error:
            raise ModelFileError(
                f"The model {model.card.reference} cannot be removed ({error.strerror}): "
                f"delete the folder {model.folder} by hand."
            ) from error
        return freed

    def verify(self, model: InstalledModel, on_progress: Progress | None = None) -> InstalledModel:
        """Read the whole file and note when; `on_progress` gets the bytes read so far.

        Raises ModelFileError if it is not what was installed.
        """
        model.usable_path()
        done = 0
        for part in model.card.files:
            path = model.folder / part.file
            try:
                found = sha256_of(path, _further(on_progress, done))
            except OSError as error:
                raise ModelFileError(
                    f"{path} cannot be read ({error.strerror}): check the disk, and remove the "
                    f"model with openchat-local models remove {model.card.reference}."
                ) from error
            if found != part.sha256:
                raise ModelFileError(
                    f"The model {model.card.reference} is damaged: the SHA-256 of {path} is "
                    f"{found[:12]}… and was {part.sha256[:12]}…; remove it with openchat-local "
                    f"models remove {model.card.reference}, and add or pull it again."
                )
            done += part.bytes
        card = replace(model.card, verified=timestamp())
        try:
            write_card(model.folder, card)
        except OSError:
            return model  # a read-only library can be verified all the same
        return replace(model, card=card)

    def install(self, part: Path | None, card: ModelCard) -> InstalledModel:
        """Move a finished download in; None where it is in its place already. Raises OSError."""
        target = self.place(card.name, card.quantisation)
        target.mkdir(parents=True, exist_ok=True)
        if part is not None:
            os.replace(part, target / card.file)
        write_card(target, card)
        return InstalledModel(card, target)

    def place(self, name: str, quantisation: str) -> Path:
        """The folder of a model. Raises ModelFileError."""
        if not _QUANTISATION.fullmatch(quantisation):
            raise ModelFileError(
                f"{quantisation!r} is not a quantisation: give one such as Q4_K_M."
            )
        return self.folder / f"{check_model_name(name)}@{quantisation}"

    def refuse_if_taken(self, name: str, quantisation: str) -> None:
        """Raise ModelFileError where there is such a model already."""
        if (self.place(name, quantisation) / CARD).exists():
            raise ModelFileError(
                f"There is a model {name}:{quantisation} already: choose another --name, or "
                f"remove it with openchat-local models remove {name}:{quantisation}."
            )

    def check_room(self, needed: int) -> None:
        """Raise ModelFileError unless `needed` bytes, and some to spare, are free."""
        folder = next(f for f in (self.folder, *self.folder.parents) if f.exists())
        free = shutil.disk_usage(folder).free
        if needed + _TO_SPARE > free:
            raise ModelFileError(
                f"The disk of {self.folder} has {size_in_words(free)} free and the model needs "
                f"{size_in_words(needed)}: make room, remove a model (openchat-local models list), "
                "or set OPENCHAT_LOCAL_HOME to a folder on another disk."
            )

    def _called(self, name: str) -> list[InstalledModel]:
        found = []
        for folder in self.folder.glob(f"{name}@*"):
            try:
                found.append(self._read(folder))
            except ModelFileError:
                continue  # `models list` tells what is wrong with it
        return found

    def _read(self, folder: Path) -> InstalledModel:
        card = read_card(folder)
        names = [card.file, *(part.file for part in card.parts)]
        inside = all(Path(name).name == name for name in names)
        if not inside or f"{card.name}@{card.quantisation}" != folder.name:
            raise ModelFileError(
                f"{folder / CARD} belongs to another folder: delete {folder}, and add the model "
                "again."
            )
        return InstalledModel(card, folder)

    def _sweep(self) -> None:
        """Delete what copies that were killed have left."""
        import psutil

        for folder in self.folder.glob(".*.part") if self.folder.is_dir() else ():
            staged = _STAGED.fullmatch(folder.name)
            if staged and folder.is_dir() and not psutil.pid_exists(int(staged[1])):
                shutil.rmtree(folder, ignore_errors=True)


def _refuse_others(folder: Path, own: tuple[str, ...]) -> None:
    """Raise ModelFileError where a folder that is about to go holds what is no model's."""
    others = others_in(folder, (*own, LOCK))
    if others:
        raise ModelFileError(
            f"{folder} holds {', '.join(others)}, which no model brought: move that away first."
        )


_TO_SPARE = 64 * 1024**2  # bytes; a disk that is full to the last byte breaks other programs


def split_reference(reference: str) -> tuple[str, str | None]:
    """NAME and QUANTISATION of "NAME:QUANTISATION"; None where there is no such part."""
    name, colon, quantisation = reference.partition(":")
    return name, quantisation if colon else None


def check_model_name(name: str) -> str:
    """`name`, if an installed model may be called so. Raises ModelFileError."""
    known = known_model(name)
    if not is_folder_name(name) or (known is not None and known.package):
        raise ModelFileError(
            f"A model cannot be named {name!r}: use up to 64 letters, digits, dots, dashes and "
            "underscores, a letter or digit first, and not the name of one that comes along."
        )
    return name


def name_from(file_name: str) -> str:
    """A model's name from its file's: "openchat-3.5-0106" of "openchat-3.5-0106.Q4_K_M.gguf"."""
    stem = without_part(file_name).removesuffix(".gguf")
    quantisation = quantisation_in(file_name)
    if quantisation is not None:
        stem = re.sub(rf"[-._]?{re.escape(quantisation)}", "", stem, flags=re.IGNORECASE)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:64] or "model"


def _further(on_progress: Progress | None, before: int) -> Progress | None:
    """Tells of the bytes of one part, `before` of which came with those before it."""
    return None if on_progress is None else lambda done: on_progress(before + done)


def _link(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source)
    except OSError:  # Windows, without the privilege for it; the same disk will do
        os.link(source, target)


def _cannot_keep(name: str, folder: Path, error: OSError) -> OpenChatError:
    return ModelFileError(
        f"The model {name} cannot be kept in {folder} ({error.strerror or error}): "
        "make room or make it writable, and try again."
    )
