"""What an adapter's training began with, as its card says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openchat_local.models.errors import OpenChatError
from openchat_local.models.library.adapters import AdapterLibrary, InstalledAdapter

_PARENT, _RUN = "parent", "run"


@dataclass(frozen=True, slots=True)
class Parent:
    """The adapter that training began with: its name then, and the id of the run that made it,
    None where that was not known."""

    name: str
    run: str | None


def parent_of(facts: Mapping[str, Any]) -> Parent | None:
    """None where training began with the model as it is, or nothing is known of it."""
    noted = facts.get(_PARENT)
    if not isinstance(noted, Mapping) or not isinstance(noted.get("name"), str):
        return None
    run = noted.get("run")
    return Parent(noted["name"], run if isinstance(run, str) else None)


def is_parent(parent: Parent, name: str, facts: Mapping[str, Any]) -> bool:
    """Whether the installed adapter `name` is that very one: another may have its name by now."""
    return name == parent.name and facts.get(_RUN) == parent.run


def installed_parent(library: AdapterLibrary, parent: Parent) -> InstalledAdapter | None:
    """The parent, if it is still here."""
    try:
        adapter = library.info(parent.name)
    except OpenChatError:
        return None
    return adapter if is_parent(parent, adapter.name, adapter.facts) else None
