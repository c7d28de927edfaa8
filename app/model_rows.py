"""The models that are installed and those that could be, as the list and the window show them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from openchat_local.app.engine import place_of_model
from openchat_local.app.settings.model import Settings, load_settings_forgivingly
from openchat_local.app.settings.remote_models import named_engines
from openchat_local.models.engine.capabilities import RemotePlace
from openchat_local.models.errors import OpenChatError
from openchat_local.models.gguf.quantisation import ESTIMATED, estimated_bytes, quantisation_in
from openchat_local.models.library import InstalledModel, ModelLibrary, installed_path
from openchat_local.models.library.catalog import KnownModel, catalog
from openchat_local.models.library.suitability import choose_quantisation, suitability_of
from openchat_local.models.library.unfinished import Unfinished, unfinished
from openchat_local.models.memory import MachineMemory, Verdict, machine_memory
from openchat_local.models.units import size_in_words

State = Literal["comes along", "installed", "linked", "remote", "unfinished", "known"]


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One line. `reference` is what `-m` and `pull` take. `bytes` is the file's size, or
    about what it will be when `state` is "known"; `need` the memory for a chat, in bytes.
    `done` bytes of an unfinished one are here; pulling `pull` fetches it, or the rest of it.
    A remote one is of another program, at `place`: it has no size, and needs nothing here."""

    reference: str
    title: str
    state: State
    bytes: int
    fit: Verdict
    need: int
    path: Path | None = None
    installed: InstalledModel | None = None
    known: KnownModel | None = None
    pull: str = ""
    done: int = 0
    place: RemotePlace | None = None

    @property
    def usable(self) -> bool:
        """Whether it can be chatted with as it is."""
        return self.state not in ("known", "unfinished")

    @property
    def size(self) -> str:
        """ "4.4 GB", or "~4.4 GB" for an estimate."""
        if self.place is not None:
            return ""
        return ("~" if self.state == "known" else "") + size_in_words(self.bytes)


@dataclass(frozen=True, slots=True)
class _Estimate:
    quantisation: str
    bytes: int


@dataclass(frozen=True, slots=True)
class _Here:
    """What a model has to fit into, and the type of its KV cache that is set."""

    machine: MachineMemory
    kv_type: str


def model_rows(library: ModelLibrary) -> tuple[list[ModelRow], list[OpenChatError]]:
    """Installed models first, then those of the remote engines of the settings, then the known
    ones that are not here; and what is wrong with those that cannot be shown."""
    settings = load_settings_forgivingly()[0]
    here = _Here(machine_memory(), settings.kv.type)
    models, faults = library.scan()
    installed = [_installed(model, here) for model in models]
    begun = unfinished(library.folder)
    names = {model.card.name for model in models}
    names |= {one.reference.partition(":")[0] for one in begun}
    known = [_known(model, here) for model in catalog().values() if model.name not in names]
    rows = [*(row for row in known if row.usable), *installed]
    remote, wrong = remote_rows(settings)
    rows += remote
    rows += [_unfinished(one, here) for one in begun]
    rows += [row for row in known if not row.usable]
    return rows, [*faults, *wrong]


def recommended(rows: list[ModelRow]) -> ModelRow | None:
    """What somebody may fetch who has nothing to chat with but the starter: the first of the
    catalogue that fits into what is free now in four bits: a smaller model is better than a
    larger one in two."""
    if any(row.installed is not None and row.fit != "does not fit" for row in rows):
        return None
    return next((row for row in rows if row.fit == "fits" and _in_four_bits(row)), None)


def _in_four_bits(row: ModelRow) -> bool:
    if row.known is None or row.state != "known" or not row.pull:
        return False
    return bool(row.known.file) or row.bytes >= estimated_bytes(row.known.shape, "Q4_K_S")


def facts(row: ModelRow) -> dict[str, object]:
    """A row as plain data, for --json."""
    card = row.installed.card if row.installed else None
    return {
        "name": row.reference,
        "title": row.title,
        "state": row.state,
        "bytes": row.bytes,
        "estimated": row.state == "known",
        "fit": row.fit if row.place is None else None,
        "url": None if row.place is None else row.place.url,
        "need_bytes": row.need,
        "path": None if row.path is None else str(row.path),
        "source": card.source if card else row.known.hub or None if row.known else None,
        "revision": (card and card.revision) or None,
        "sha256": card and card.sha256,
        "licence": card.licence if card else row.known.licence if row.known else None,
        "added": card and card.added,
        "verified": card and card.verified,
    }


def lines(rows: list[ModelRow]) -> Iterator[str]:
    """The rows as aligned text, within 80 columns where names are not very long; and which one
    to fetch, where none is here that fits."""
    width = max((len(row.reference) for row in rows), default=0)
    for row in rows:
        note = f"models pull {row.pull}" if row.pull else row.state
        if row.state == "known" and row.known and not row.known.install:
            note = row.known.licence
        if row.state == "known" and row.known and row.known.install:
            note = row.known.install
        elif row.place is not None:
            note = f"{'remote' if row.place.leaves else 'local server'}, {row.place.url}"
        elif row.state == "unfinished":
            note = f"{row.done / max(row.bytes, 1):.0%} here: {note}"
        fit = row.fit if row.place is None else ""
        yield f"{row.reference:<{width}}  {row.size:>9}  {fit:<12}  {note}"
    known = [row for row in rows if row.state == "known" and row.pull]
    if one := recommended(rows):
        yield f"{one.title} suits this machine: openchat-local models pull {one.reference}"
    elif known:
        yield "To fetch one: openchat-local models pull NAME"


def _installed(model: InstalledModel, here: _Here) -> ModelRow:
    card = model.card
    fit = suitability_of(card.shape, card.bytes, card.context, here.machine, here.kv_type)
    known = catalog().get(card.name)
    return ModelRow(
        reference=card.reference,
        title=known.title if known else card.name,
        state="linked" if model.is_link else "installed",
        bytes=card.bytes,
        fit=fit.verdict,
        need=fit.need,
        path=model.path,
        installed=model,
        known=known,
    )


def remote_rows(settings: Settings) -> tuple[list[ModelRow], list[OpenChatError]]:
    """One for each engine of the settings, with the model that is asked for there; nobody is
    asked which others it has."""
    rows: list[ModelRow] = []
    faults: list[OpenChatError] = []
    for name, entry in named_engines(settings).items():
        reference = f"{entry.model}@{name}"
        try:
            place = place_of_model(reference, settings)
        except OpenChatError as fault:
            faults.append(fault)
            continue
        rows.append(ModelRow(reference, reference, "remote", 0, "fits", 0, place=place))
    return rows, faults


def _unfinished(begun: Unfinished, here: _Here) -> ModelRow:
    known = catalog().get(begun.reference.partition(":")[0])
    shape, context = (known.memory_shape, known.context) if known else (None, 0)
    fit = suitability_of(shape, begun.bytes, context, here.machine, here.kv_type)
    title = known.title if known else begun.reference
    return ModelRow(
        begun.reference, title, "unfinished", begun.bytes, fit.verdict, fit.need,
        known=known, pull=begun.pull, done=begun.done,
    )  # fmt: skip


def _known(model: KnownModel, here: _Here) -> ModelRow:
    shape = model.memory_shape
    path = installed_path(model)
    if path is not None:
        size = path.stat().st_size
    else:
        quantisations = [quantisation_in(model.file) or ""] if model.file else ESTIMATED
        offers = [
            _Estimate(name, estimated_bytes(model.shape, name))
            for name in quantisations
            if name in ESTIMATED
        ] or [_Estimate("", estimated_bytes(model.shape, "Q4_K_M"))]
        chosen, _ = choose_quantisation(offers, here.machine, shape, model.context, here.kv_type)
        size = chosen.bytes
    fit = suitability_of(shape, size, model.context, here.machine, here.kv_type)
    state: State = "known" if path is None else "comes along"
    return ModelRow(
        model.name, model.title, state, size, fit.verdict, fit.need, path,
        known=model, pull=model.name if path is None and model.hub else "",
    )  # fmt: skip
