"""What an adapter's training began with, as its card says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_local.app.chats.ids import made_at
from openchat_local.finetune.run.directory import RunDirectory
from openchat_local.models.errors import OpenChatError
from openchat_local.models.library.adapters import AdapterLibrary, InstalledAdapter

if TYPE_CHECKING:
    from openchat_local.app.learning.feedback import Lesson

CHATS = "chats"  # in run.json: of how many chats its rows are, and when the first and last began
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


def note_chats(run: Path, lessons: Iterable[Lesson]) -> None:
    """Note in run.json which chats the rows of a run that has just begun are from: how many, and
    from when to when. Raises RunError or OSError."""
    chats = {lesson.chat_id for lesson in lessons}
    if not chats:
        return
    noted: dict[str, float] = {"count": len(chats)}
    with suppress(ValueError):  # ids that are not ours tell no time
        begun = [made_at(one) for one in chats]
        noted |= {"since": min(begun), "until": max(begun)}
    directory = RunDirectory(run)
    directory.write_settings(directory.settings() | {CHATS: noted})
