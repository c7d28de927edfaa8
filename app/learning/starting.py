"""What is to be learned, from which chats, and the beginning of it."""

from __future__ import annotations

import errno
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_local.models.errors import OpenChatError
from openchat_local.models.library.adapters import NO_ADAPTER, AdapterLibrary, check_name

if TYPE_CHECKING:
    from openchat_local.app.chats import ChatStore
    from openchat_local.app.learning.feedback import Lesson
    from openchat_local.app.learning.rules import FeedbackRules
    from openchat_local.app.learning.selecting import Selection
    from openchat_local.finetune.run.background import BackgroundRun
    from openchat_local.finetune.run.plan import Plan
    from openchat_local.finetune.run.settings import RunSettings

FIRST_NAME = "mine"


class LearningError(OpenChatError):
    """Nothing can be learned as it was asked for."""


@dataclass(frozen=True, slots=True)
class LearningRequest:
    """What a person wants learned, and how.

    `base` is the model's GGUF file and `template` as in the settings. `mix` are files of
    conversations that are learned from beside the chats. `start_from` names an installed adapter
    that training goes on from; None begins with the model as it is. `held_out` is the share of
    rows that is not learned from, to measure on. Of `epochs`, `steps` and `minutes` the first
    that ends ends it; without any it is three epochs.
    """

    name: str
    base: Path
    selection: Selection
    rules: FeedbackRules
    template: str | None = None
    mix: tuple[Path, ...] = ()
    start_from: str | None = None
    held_out: float = 0.05
    epochs: float = 0.0
    steps: int = 0
    minutes: float = 0.0

    def of_chats(self, chat_ids: Collection[str]) -> LearningRequest:
        """The same of these very chats, whatever would be found by now."""
        selection = replace(
            self.selection,
            only=frozenset(chat_ids),
            excluded=frozenset(),
            since=None,
            until=None,
            tags=frozenset(),
            search="",
            model=None,
        )
        return replace(self, selection=selection)


@dataclass(frozen=True, slots=True)
class Tried:
    """A plan whose costliest batch was tried on the rows of these lessons."""

    lessons: tuple[Lesson, ...]
    plan: Plan

    def fields(self, request: LearningRequest, lessons: Sequence[Lesson]) -> dict[str, Any]:
        """The plan for run.json, where these are the very rows that it was tried on: files that
        are learned from too may be others by now."""
        same = self.lessons == tuple(lessons) and not request.mix
        return {"plan": asdict(self.plan)} if same else {}


@dataclass(frozen=True, slots=True)
class Begun:
    """A run that was begun, what it learns from, and how many of the chats that were asked for
    are not in it because they went away meanwhile, by why (see `selecting`)."""

    run: BackgroundRun
    lessons: tuple[Lesson, ...]
    gone: Mapping[str, int]


def lessons_of(store: ChatStore, chat_id: str, request: LearningRequest) -> tuple[Lesson, ...]:
    """The rows of one chat; none of one that is deleted or private by now. Raises
    ChatStoreError."""
    from openchat_local.app.chats import ChatNotFound
    from openchat_local.app.learning.feedback import lessons

    try:
        chat, messages = store.whole_chat(chat_id)
    except ChatNotFound:
        return ()
    if chat.private:
        return ()
    selection = request.selection
    found = lessons(
        chat,
        messages,
        request.rules,
        cut_replies=selection.cut_replies,
        thinking=selection.thinking,
    )
    return tuple(found)


def begin_learning(
    store: ChatStore, request: LearningRequest, home: Path, tried: Tried | None = None
) -> Begun:
    """Make rows of the chats as they are now, and begin a run on them in the background, by the
    plan that was `tried` where that was on these very rows.

    Where it cannot be begun, nothing is left of it. Raises OpenChatError: another run is at
    work, there is nothing to learn from, the name is taken, nothing here can train, the disk
    is full.
    """
    from openchat_local.app.learning.selecting import DELETED, PRIVATE, gather
    from openchat_local.finetune.backends.choose import find_backend
    from openchat_local.finetune.run.background import refuse_second
    from openchat_local.finetune.run.supervisor import runs_folder

    find_backend()
    refuse_second(home)
    refuse_name(request.name, home)
    gathered = gather(store, request.selection, request.rules)
    if not gathered.lessons and not request.mix:
        raise LearningError("Nothing is left to learn from: choose other chats.")
    folder = runs_folder(home) / request.name
    fields = run_fields(request, folder, home)
    if tried is not None:
        fields |= tried.fields(request, gathered.lessons)
    with _told_of_the_disk(folder):
        run = _begin(request, gathered.lessons, fields, folder, home)
    left_out = gathered.left_out
    gone = {why: left_out[why] for why in (DELETED, PRIVATE) if left_out.get(why)}
    return Begun(run, gathered.lessons, gone)


def _begin(
    request: LearningRequest,
    lessons: Sequence[Lesson],
    fields: Mapping[str, Any],
    folder: Path,
    home: Path,
) -> BackgroundRun:
    from openchat_local.finetune.run.background import begin_in_background
    from openchat_local.finetune.run.beginning import begin_run

    new = begin_run(folder, fields)
    try:
        write_data(request, lessons, folder)
    except BaseException:
        with suppress(OSError):
            new.discard()
        raise
    return begin_in_background(new, home=home)


def write_data(request: LearningRequest, lessons: Sequence[Lesson], folder: Path) -> None:
    """Write what the run in `folder` learns from. Raises OpenChatError and OSError."""
    from openchat_local.app.learning.extra_files import write_rows
    from openchat_local.app.learning.lineage import note_chats
    from openchat_local.app.learning.rows_file import ROWS_IN_RUN

    data = folder / ROWS_IN_RUN
    data.parent.mkdir(mode=0o700, exist_ok=True)
    write_rows(data, lessons, request.mix, request.rules)
    note_chats(folder, lessons)


def run_fields(request: LearningRequest, folder: Path, home: Path) -> dict[str, Any]:
    """What run.json begins with, of a run in `folder`. Raises AdapterError for an adapter to
    start from that is not there, ModelFileError for a base that is none."""
    from openchat_local.app.learning.rows_file import ROWS_IN_RUN

    settings = run_settings(request, folder / ROWS_IN_RUN, home)
    return {"name": request.name, "settings": settings.as_json(), "begun": time.time()}


def run_settings(request: LearningRequest, data: Path, home: Path) -> RunSettings:
    """The settings of a run on the rows in `data`: rank and layers are those of the adapter that
    it goes on from. Raises AdapterError, ModelFileError."""
    from openchat_local.app.learning.recipe import data_options, optimizer
    from openchat_local.finetune.adapter.lora import LoraConfig
    from openchat_local.finetune.run.parent import lora_of
    from openchat_local.finetune.run.settings import RunSettings
    from openchat_local.models.gguf import read_gguf

    start, base = None, read_gguf(request.base)
    if request.start_from is not None:
        start = AdapterLibrary(home / "adapters").resolve(request.start_from)
    return RunSettings(
        name=request.name,
        base=request.base,
        data=data,
        data_options=data_options(request.held_out, start),
        optimizer=optimizer(base),
        template=request.template,
        start_from=start,
        lora=LoraConfig() if start is None else lora_of(start, base),
        epochs=request.epochs,
        steps=request.steps,
        minutes=request.minutes,
    )


def adapters_of(base: Path, home: Path) -> tuple[str, ...]:
    """The installed adapters that were trained on this model: what can be gone on from."""
    from openchat_local.models.gguf import read_gguf

    library, fingerprint = AdapterLibrary(home / "adapters"), read_gguf(base).fingerprint
    found = []
    for name in library.names():
        with suppress(OpenChatError):  # a damaged one is none to go on from
            if library.info(name).file.card.base_fingerprint == fingerprint:
                found.append(name)
    return tuple(found)


def names_taken(home: Path) -> frozenset[str]:
    """The names of adapters and of runs, in small letters: some disks know no others."""
    from openchat_local.finetune.run.supervisor import runs_folder

    folder = runs_folder(home)
    runs = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    names = (*AdapterLibrary(home / "adapters").names(), *runs)
    return frozenset(name.casefold() for name in names)


def refuse_name(name: str, home: Path) -> None:
    """Raise AdapterError where nothing may be called `name`, LearningError where something is."""
    check_name(name)
    taken = names_taken(home)
    if name.casefold() in taken:
        raise LearningError(
            f"There is an adapter or a run named {name} already: call it "
            f"{proposed_name(taken, name)}, for example."
        )


def proposed_name(taken: Collection[str], after: str | None = None) -> str:
    """A name that nothing has: "mine", or that of what it goes on `after` with the next number.
    `taken` are in small letters."""
    stem, number = after or FIRST_NAME, 1
    head, dash, tail = stem.rpartition("-")
    if after is not None and dash and head and tail.isdecimal():
        stem, number = head, int(tail)
    stem = stem[:56]  # of the 64 that a name may have
    name = stem if after is None else f"{stem}-{number + 1}"
    while name.casefold() in taken or name.casefold() == NO_ADAPTER:
        number += 1
        name = f"{stem}-{number}"
    return name


def on_battery() -> bool:
    """Whether this machine runs on its battery, as far as it tells."""
    import psutil

    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    return battery is not None and battery.power_plugged is False


@contextmanager
def _told_of_the_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or error
        raise LearningError(
            f"The run cannot be kept in {folder} ({reason}): make room or make it writable."
        ) from error
