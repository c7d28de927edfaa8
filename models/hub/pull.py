"""From a name to a verified model in the library."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from openchat_local.models.choice import choose_quantisation
from openchat_local.models.errors import ModelFileError
from openchat_local.models.file_lock import try_lock
from openchat_local.models.fit import machine_memory
from openchat_local.models.gguf import read_gguf
from openchat_local.models.hub.client import Hub, HubFile, Listing
from openchat_local.models.hub.download import Progress, download
from openchat_local.models.hub.faults import HubError, from_disk
from openchat_local.models.hub.reference import Wanted
from openchat_local.models.library.card import CARD, describe
from openchat_local.models.library.store import PARTS, InstalledModel, ModelLibrary

_SPLIT = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which file will be fetched, what it will be called here, and why this one."""

    reference: str
    repository: str
    file: HubFile
    reason: str


Event = Chosen | Progress


def pull(
    hub: Hub,
    wanted: Wanted,
    library: ModelLibrary,
    tell: Callable[[Event], None],
    *,
    name: str | None = None,
) -> InstalledModel:
    """Fetch a model, or go on with it, check it against the hub's own hash, and install it;
    one that is there already comes back as it is. `name` is what to call it instead.

    Raises HubError, ModelFileError, OfflineError or PullCancelled.
    """
    listing = hub.listing(
        wanted.repository, wanted.revision, lambda note: tell(Progress(0, 0, note=note))
    )
    file, reason = choose_file(listing, wanted)
    quantisation = file.quantisation or "GGUF"
    name = name or wanted.name
    target = library.place(name, quantisation)
    tell(Chosen(f"{name}:{quantisation}", wanted.repository, file, reason))
    if file.sha256 is None:
        raise HubError(
            f"The hub gives no SHA-256 of {file.name}, so that it could not be verified: fetch it "
            "with a browser, and add it with openchat-local models add."
        )
    part = library.folder / PARTS / f"{file.sha256}.part"
    with _held(part, file):
        if (there := _already_there(library, f"{name}:{quantisation}", file)) is not None:
            return there
        library.refuse_if_taken(name, quantisation)
        file_name = Path(file.name).name
        _take_back(target, file_name, part)
        library.check_room(file.bytes - (part.stat().st_size if part.exists() else 0))
        download(hub, listing, file, part, tell)
        return _install(library, listing, file, part, name, quantisation)


def choose_file(listing: Listing, wanted: Wanted) -> tuple[HubFile, str]:
    """The file that is wanted, and why. Raises HubError."""
    if wanted.file is not None:
        named = [file for file in listing.files if file.name == wanted.file]
        if not named:
            raise HubError(
                f"{listing.repository} has no file {wanted.file} on the hub: {_there_is(listing)}."
            )
        return named[0], "You asked for this file."
    whole = [f for f in listing.files if not _SPLIT.search(f.name) and "mmproj" not in f.name]
    if wanted.quantisation is not None:
        asked = wanted.quantisation.upper()
        matching = [file for file in whole if file.quantisation == asked]
        if not matching:
            raise HubError(
                f"{listing.repository} has no {asked} in one file on the hub: {_there_is(listing)}."
            )
        return matching[0], "You asked for this quantisation."
    if not whole:
        what = "only models in several parts" if listing.files else "no GGUF file"
        raise HubError(
            f"{listing.repository} has {what} on the hub: look for a repository whose name ends "
            "in GGUF."
        )
    shape = wanted.known.memory_shape if wanted.known else None
    context = wanted.known.context if wanted.known else 0
    return choose_quantisation(whole, machine_memory(), shape, context)


def _there_is(listing: Listing) -> str:
    names = sorted({file.quantisation or file.name for file in listing.files})
    return f"there is {', '.join(names)}" if names else "it has no GGUF file at all"


def _already_there(library: ModelLibrary, reference: str, file: HubFile) -> InstalledModel | None:
    installed = library.find(reference)
    if installed is None or installed.card.sha256 != file.sha256:
        return None
    return installed if installed.path.is_file() else None


def _take_back(target: Path, file_name: str, part: Path) -> None:
    """A kill between the move and the card has left the whole file without a card."""
    moved = target / file_name
    if moved.is_file() and not (target / CARD).exists() and not part.exists():
        os.replace(moved, part)


def _install(
    library: ModelLibrary, listing: Listing, file: HubFile, part: Path, name: str, quantisation: str
) -> InstalledModel:
    try:
        card = describe(
            read_gguf(part),
            name,
            file.sha256 or "",
            origin="hub",
            source=f"{listing.repository}/{file.name}",
            file_name=Path(file.name).name,
            quantisation=quantisation,
            revision=listing.revision,
            licence=listing.licence,
        )
    except ModelFileError as fault:
        part.unlink(missing_ok=True)  # whole, and of no use
        raise HubError(
            f"{listing.repository}/{file.name} is no model that can be used "
            f"({str(fault).partition(': ')[0].replace(str(part), 'it')}): choose another file."
        ) from fault
    try:
        return library.install(part, card)
    except OSError as error:
        raise from_disk(error, file.name, library.folder, file.bytes, file.bytes) from error


@contextmanager
def _held(part: Path, file: HubFile) -> Iterator[None]:
    """Nobody else fetches this content meanwhile."""
    lock = part.with_suffix(".lock")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        descriptor = try_lock(lock)
    except OSError as error:
        raise from_disk(error, file.name, part.parent.parent, 0, file.bytes) from error
    if descriptor is None:
        raise HubError(
            f"{file.name} is being fetched by another openchat-local: wait for that one."
        )
    try:
        yield
        lock.unlink(missing_ok=True)  # whoever waited for it finds the model installed
    finally:
        os.close(descriptor)
