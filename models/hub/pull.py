"""From a name to a verified model in the library."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from openchat_local.models.errors import ModelFileError
from openchat_local.models.gguf import read_gguf
from openchat_local.models.gguf.header import DROPPED_TYPES
from openchat_local.models.hub.client import Hub, HubFile, Listing
from openchat_local.models.hub.download import Progress, download
from openchat_local.models.hub.faults import HubError, from_disk
from openchat_local.models.hub.reference import Wanted
from openchat_local.models.library.card import CARD, describe
from openchat_local.models.library.found import FoundModel, same_elsewhere
from openchat_local.models.library.store import InstalledModel, ModelLibrary
from openchat_local.models.library.suitability import choose_quantisation
from openchat_local.models.library.unfinished import forget_note, note, part_path
from openchat_local.models.memory import machine_memory
from openchat_local.models.system.file_lock import try_lock


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which file will be fetched, what it will be called here, and why this one; under which
    `licence`, "" where nobody says."""

    reference: str
    repository: str
    file: HubFile
    reason: str
    licence: str


Event = Chosen | Progress
LinkInstead = Callable[[FoundModel], bool]


def pull(
    hub: Hub,
    wanted: Wanted,
    library: ModelLibrary,
    tell: Callable[[Event], None],
    *,
    name: str | None = None,
    link_instead: LinkInstead = lambda _: False,
    kv_type: str = "f16",
) -> InstalledModel:
    """Fetch a model, or the rest of it, check it against the hub's own hash, and install it;
    one that is there already comes back as it is. `name` is what to call it instead.
    `link_instead` is asked whether to link to another program's file, if one has it. `kv_type`
    is what a chat keeps its keys and values as, for which there has to be room.

    Raises HubError, ModelFileError, OfflineError or PullCancelled.
    """
    listing = hub.listing(
        wanted.repository, wanted.revision, lambda note: tell(Progress(0, 0, note=note))
    )
    file, reason = choose_file(listing, wanted, kv_type)
    quantisation = file.quantisation or "GGUF"
    name = name or wanted.name
    target = library.place(name, quantisation)
    licence = (wanted.known.licence if wanted.known else "") or listing.licence
    tell(Chosen(f"{name}:{quantisation}", wanted.repository, file, reason, licence))
    files = file.parts or (file,)
    for one in files:
        if one.sha256 is None:
            raise HubError(
                f"The hub gives no SHA-256 of {one.name}, so that it could not be verified: fetch "
                "it with a browser, and add it with openchat-local models add."
            )
    parts = [part_path(library.folder, one.sha256 or "") for one in files]
    with _held(parts[0], file):
        if (there := _already_there(library, f"{name}:{quantisation}", files)) is not None:
            return there
        library.refuse_if_taken(name, quantisation)
        for one, part in zip(files, parts, strict=True):
            _take_back(target, Path(one.name).name, part)
        if linked := _linked(library, file, name, quantisation, link_instead):
            return linked
        here = sum(part.stat().st_size for part in parts if part.exists())
        library.check_room(file.bytes - here)
        with translating_disk(file, parts[0]):
            to_go_on = _to_go_on(wanted, file)
            note(parts[0], f"{name}:{quantisation}", to_go_on, file.bytes, parts[1:])
        done = 0
        for one, part in zip(files, parts, strict=True):
            download(hub, listing, one, part, _of_all(tell, file, done))
            done += one.bytes
        licence = listing.licence or licence
        model = _install(library, listing, file, parts, (name, quantisation, licence))
        forget_note(parts[0])
        return model


def _of_all(
    tell: Callable[[Event], None], file: HubFile, before: int
) -> Callable[[Progress], None]:
    """Tells of one part as of the whole, `before` bytes of which came with those before it."""

    def told(one: Progress) -> None:
        left = (file.bytes - before - one.done) / one.speed if one.speed > 0 else None
        tell(replace(one, done=before + one.done, total=file.bytes, seconds_left=left))

    return told if file.parts else tell


def choose_file(listing: Listing, wanted: Wanted, kv_type: str = "f16") -> tuple[HubFile, str]:
    """The file that is wanted, and why. Raises HubError."""
    file, reason = _choose(listing, wanted, kv_type)
    if plain := DROPPED_TYPES.get(file.quantisation or ""):
        raise HubError(
            f"{listing.repository}/{file.name} is quantised as {file.quantisation}, which "
            f"llama.cpp no longer reads: ask for {plain}, which is as fast now."
        )
    return file, reason


def _choose(listing: Listing, wanted: Wanted, kv_type: str) -> tuple[HubFile, str]:
    if wanted.file is not None:
        named = [
            file
            for file in listing.models()
            if wanted.file in (file.name, *(part.name for part in file.parts))
        ]
        if not named:
            raise HubError(
                f"{listing.repository} has no file {wanted.file} on the hub: {_there_is(listing)}."
            )
        return named[0], "You asked for this file."
    whole = listing.models()
    if wanted.quantisation is not None:
        asked = wanted.quantisation.upper()
        matching = [file for file in whole if file.quantisation == asked]
        if not matching:
            raise HubError(f"{listing.repository} has no {asked} on the hub: {_there_is(listing)}.")
        return matching[0], "You asked for this quantisation."
    if not whole:
        what = "no model of which every part is there" if listing.files else "no GGUF file"
        raise HubError(
            f"{listing.repository} has {what} on the hub: look for a repository whose name ends "
            "in GGUF."
        )
    shape = wanted.known.memory_shape if wanted.known else None
    context = wanted.known.context if wanted.known else 0
    read = [file for file in whole if file.quantisation not in DROPPED_TYPES]
    return choose_quantisation(read or whole, machine_memory(), shape, context, kv_type)


def _there_is(listing: Listing) -> str:
    names = sorted({file.quantisation or file.name for file in listing.files})
    return f"there is {', '.join(names)}" if names else "it has no GGUF file at all"


def _already_there(
    library: ModelLibrary, reference: str, files: Sequence[HubFile]
) -> InstalledModel | None:
    installed = library.find(reference)
    if installed is None:
        return None
    if [part.sha256 for part in installed.card.files] != [file.sha256 for file in files]:
        return None
    there = all((installed.folder / part.file).is_file() for part in installed.card.files)
    return installed if there else None


def _take_back(target: Path, file_name: str, part: Path) -> None:
    """A kill between the move and the card has left the whole file without a card."""
    moved = target / file_name
    if moved.is_file() and not (target / CARD).exists() and not part.exists():
        os.replace(moved, part)


def _to_go_on(wanted: Wanted, file: HubFile) -> str:
    """What to pull to get the rest of this file."""
    if wanted.known is not None and wanted.file is None and file.quantisation:
        return f"{wanted.known.name}:{file.quantisation}"
    revision = f"@{wanted.revision}" if wanted.revision else ""
    return f"hf:{wanted.repository}{revision}/{file.name}"


def _linked(
    library: ModelLibrary, file: HubFile, name: str, quantisation: str, wanted: LinkInstead
) -> InstalledModel | None:
    """The model as a link to another program's file, if there is one and the user likes it."""
    if file.parts:
        return None
    found = same_elsewhere(file.sha256 or "", file.bytes, Path(file.name).name)
    if found is None or not wanted(found):
        return None
    model = library.add(found.path, name, quantisation=quantisation, link=True)
    if model.card.sha256 == file.sha256:
        return model
    library.remove(model)  # called the same, and something else
    return None


def _install(
    library: ModelLibrary,
    listing: Listing,
    file: HubFile,
    parts: Sequence[Path],
    called: tuple[str, str, str],
) -> InstalledModel:
    name, quantisation, licence = called
    names = [Path(one.name).name for one in file.parts or (file,)]
    place = library.place(name, quantisation)
    try:
        # Parts know one another by their names: they are read where they will stay, and no
        # model is there before its card is.
        if file.parts:
            with translating_disk(file, parts[0]):
                place.mkdir(parents=True, exist_ok=True)
                for part, part_name in zip(parts, names, strict=True):
                    os.replace(part, place / part_name)
        header = read_gguf(place / names[0] if file.parts else parts[0])
        card = describe(
            header,
            name,
            [one.sha256 or "" for one in file.parts or (file,)],
            origin="hub",
            source=f"{listing.repository}/{file.name}",
            file_name=names[0],
            quantisation=quantisation,
            revision=listing.revision,
            licence=licence,
        )
    except ModelFileError as fault:
        for part, part_name in zip(parts, names, strict=True):  # whole, and of no use
            part.unlink(missing_ok=True)
            if file.parts:
                (place / part_name).unlink(missing_ok=True)
        raise HubError(
            f"{listing.repository}/{file.name} is not a model that can be used "
            f"({str(fault).partition(': ')[0].replace(str(parts[0]), 'it')}): choose another file."
        ) from fault
    with translating_disk(file, parts[0]):
        return library.install(None if file.parts else parts[0], card)


@contextmanager
def translating_disk(file: HubFile, part: Path) -> Iterator[None]:
    """Raise HubError for an OSError inside."""
    try:
        yield
    except OSError as error:
        done = part.stat().st_size if part.exists() else 0
        raise from_disk(error, file.name, part.parent.parent, done, file.bytes) from error


@contextmanager
def _held(part: Path, file: HubFile) -> Iterator[None]:
    """Nobody else fetches this content meanwhile."""
    lock = part.with_suffix(".lock")
    with translating_disk(file, part):
        part.parent.mkdir(parents=True, exist_ok=True)
        descriptor = try_lock(lock)
    if descriptor is None:
        raise HubError(
            f"{file.name} is being fetched by another openchat-local: wait for that one."
        )
    try:
        yield
        lock.unlink(missing_ok=True)  # whoever waited for it finds the model installed
    finally:
        os.close(descriptor)
