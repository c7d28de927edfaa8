"""What the user wants to pull: a known model's name, or a place on the hub."""

from __future__ import annotations

import re
from dataclasses import dataclass

from openchat_local.models.hub.faults import HubError
from openchat_local.models.library.catalog import KnownModel, catalog, known_model, known_repository
from openchat_local.models.library.store import split_reference

_PLACE = re.compile(
    r"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(?:@(?P<revision>[\w./-]+?))?"
    r"(?:/(?P<file>[^:@]+\.gguf))?"
    r"(?::(?P<quantisation>\w+))?",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model on the hub: which repository, and which file of it as far as that was said."""

    repository: str
    name: str
    quantisation: str | None = None
    file: str | None = None
    revision: str | None = None
    known: KnownModel | None = None


def parse_wanted(text: str) -> Wanted:
    """`NAME[:QUANTISATION]` or `hf:OWNER/REPOSITORY[@REVISION][/FILE][:QUANTISATION]`.

    Raises HubError.
    """
    if text.lower().startswith("hf:"):
        return _place(text)
    name, quantisation = split_reference(text)
    known = known_model(name)
    if known is None:
        names = ", ".join(model.name for model in catalog().values() if model.hub)
        raise HubError(
            f"There is no known model named '{name}': use one of {names}, or "
            "hf:OWNER/REPOSITORY for another of the hub."
        )
    if not known.hub:
        raise HubError(f"The model '{known.name}' does not come from the hub: {known.install}.")
    return Wanted(known.hub, known.name, quantisation, known=known)


def _place(text: str) -> Wanted:
    place = _PLACE.fullmatch(text[3:].removeprefix("//"))
    if place is None:
        raise HubError(
            f"{text!r} is not a place on the hub: write hf:OWNER/REPOSITORY, "
            "hf:OWNER/REPOSITORY:Q4_K_M, or hf:OWNER/REPOSITORY/FILE.gguf."
        )
    repository = place["repository"]
    known = known_repository(repository)
    name = known.name if known else _name_of(repository)
    return Wanted(repository, name, place["quantisation"], place["file"], place["revision"], known)


def _name_of(repository: str) -> str:
    """ "Some-Model-7B" of "Owner/Some-Model-7B-GGUF"."""
    name = repository.partition("/")[2]
    return re.sub(r"[-_.]?gguf$", "", name, flags=re.IGNORECASE).strip("-._")[:64] or name[:64]
