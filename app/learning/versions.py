"""Adapters as versions: what each was trained on and from, how it scored, and which one answers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openchat_local.app.engine import installed_adapters
from openchat_local.app.learning.adoption import Change, adopt_setting, read_journal, take_back
from openchat_local.app.learning.findings import Findings, kept_findings
from openchat_local.app.learning.lineage import CHATS, installed_parent, is_parent, parent_of
from openchat_local.app.learning.rows_file import ROWS_IN_RUN
from openchat_local.app.paths import data_home
from openchat_local.app.settings.model import load_settings_forgivingly
from openchat_local.finetune.run.known import check_idle, remove_run, run_of
from openchat_local.models.errors import OpenChatError
from openchat_local.models.library.adapters import NO_ADAPTER, SCALE, InstalledAdapter

LEAST_SCALE, MOST_SCALE = 0.05, 4.0


class VersionError(OpenChatError):
    """What was asked of an adapter cannot be done."""


class ScoredWorse(VersionError):
    """The adapter scored worse: it is adopted only when that is said again."""


class StillInUse(VersionError):
    """The adapter that answers now is deleted only when that is said again."""


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """`counts` are conversations by class, the best first. `chats` is how many chats they are from,
    which began `since` and ended `until` (seconds since 1970); None where that is not known."""

    counts: Mapping[str, int]
    chats: int | None = None
    since: float | None = None
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Votes:
    """Of blind comparisons; a tie is also where both were bad."""

    wins: int = 0
    losses: int = 0
    ties: int = 0

    @property
    def count(self) -> int:
        return self.wins + self.losses + self.ties


@dataclass(frozen=True, slots=True)
class Version:
    """An installed adapter. `origin` is what the adapter was called that its training began with,
    None for the base; it is the `parent` where that is still here. `base` is what its model is
    called, "" where it does not say. `run` is its run's folder, where that is still here.
    `trained_at` and `adopted_at` are in seconds since 1970. `problem` says what is wrong with its
    file."""

    name: str
    origin: str | None = None
    parent: str | None = None
    base: str = ""
    run: Path | None = None
    trained_at: float | None = None
    trained_on: TrainedOn = TrainedOn({})
    findings: Findings | None = None
    votes: Votes = Votes()
    adopted_at: float | None = None
    in_use: bool = False
    scale: float = 1.0
    problem: str | None = None

    @property
    def report(self) -> Path | None:
        """The page that its run wrote."""
        path = None if self.run is None else self.run / "report.html"
        return path if path is not None and path.is_file() else None


@dataclass(frozen=True, slots=True)
class Branch:
    """A line of the tree: `stem` are the strokes before it. Without a version it is a model."""

    stem: str
    label: str
    version: Version | None = None


Tally = Mapping[str, Votes]
"""The votes of every adapter by its name, as `arena.votes_by_adapter` counts them."""


def in_use() -> str | None:
    """What new chats answer with: the name or file of an adapter, None for the model as it is."""
    adapter = load_settings_forgivingly()[0].adapter
    return None if adapter == NO_ADAPTER else adapter


def versions(votes: Tally | None = None) -> list[Version]:
    """The installed adapters, in alphabetical order; one that is damaged says so itself."""
    library, journal, used = installed_adapters(), read_journal(), in_use()
    found = []
    for name in library.names():
        own = (votes or {}).get(name, Votes())
        try:
            adapter = library.info(name)
        except OpenChatError as problem:
            found.append(Version(name, votes=own, in_use=name == used, problem=str(problem)))
            continue
        found.append(_version(adapter, own, journal.adopted_at(name), in_use=name == used))
    return found


def version(name: str, votes: Tally | None = None) -> Version:
    """One of them. Raises AdapterError where there is none of that name."""
    installed_adapters().existing(name)
    return next(one for one in versions(votes) if one.name == name)


def tree(found: Sequence[Version]) -> list[Branch]:
    """The versions below the models and adapters that they were trained from, older ones first.

    Whose parent is gone stands below the model.
    """
    names = {one.name: one for one in found}
    children: dict[str | None, list[Version]] = {}
    for one in found:
        children.setdefault(_parent(one, names), []).append(one)
    branches = []
    roots = children.pop(None, [])
    for base in dict.fromkeys(one.base for one in roots):
        branches.append(Branch("", base or "a model that is not named"))
        branches += _below([one for one in roots if one.base == base], children, "")
    return branches


def _parent(one: Version, names: Mapping[str, Version]) -> str | None:
    """Its parent; None for a circle, which no card of ours makes and any file may tell of."""
    seen = {one.name}
    above = one.parent
    while above is not None and above in names:
        if above in seen:
            return None
        seen.add(above)
        above = names[above].parent
    return one.parent if one.parent in names else None


def _below(
    own: Sequence[Version], children: Mapping[str | None, Sequence[Version]], stem: str
) -> Iterator[Branch]:
    ordered = sorted(own, key=lambda one: (one.trained_at or 0.0, one.name))
    for one in ordered:
        last = one is ordered[-1]
        yield Branch(f"{stem}{'└─' if last else '├─'} ", one.name, one)
        yield from _below(children.get(one.name, []), children, f"{stem}{'   ' if last else '│  '}")


def adopt(name: str, *, even_if_worse: bool = False) -> Change:
    """Have new chats answer with the adapter `name`, or "none". `roll_back` brings back what did
    before. Raises ScoredWorse, AdapterError, ModelFileError, AdoptionError or SettingsError."""
    from openchat_local.app.engine import model_path
    from openchat_local.models.gguf import read_gguf
    from openchat_local.models.library.adapter_file import check_fits

    if name != NO_ADAPTER:
        adapter = installed_adapters().info(name)
        model = load_settings_forgivingly()[0].model
        check_fits(adapter.file, read_gguf(model_path(model)))
        found = kept_findings(adapter.facts)
        if found is not None and found.worse and not even_if_worse:
            raise ScoredWorse(
                f"{name} scored worse than what there was: adopt it all the same only if you know "
                "why."
            )
    return adopt_setting(name)


def roll_back() -> Change:
    """Bring back what answered before the last adoption. Raises AdoptionError or SettingsError."""
    return take_back()


def overruled() -> str | None:
    """A sentence where something beats the settings file, so that what is adopted does not hold."""
    from openchat_local.app.settings.model import load_settings_with_sources

    try:
        source = load_settings_with_sources()[1].get("adapter")
    except OpenChatError:
        return None
    if source in ("file", "default", None):
        return None
    return f"The adapter that answers is set by the {source}, which beats the settings file."


def set_scale(name: str, scale: float) -> None:
    """Multiply the effect of an adapter by `scale` from its next use on; 1 is as it was trained.
    Raises VersionError or AdapterError."""
    if not math.isfinite(scale) or not LEAST_SCALE <= scale <= MOST_SCALE:
        raise VersionError(
            f"The scale of an adapter is from {LEAST_SCALE:g} to {MOST_SCALE:g}: 1 is as it was "
            "trained, less is nearer to the model as it is."
        )
    installed_adapters().note(name, {SCALE: None if scale == 1 else scale})


# Deleting


@dataclass(frozen=True, slots=True)
class Deletion:
    """What would go with an adapter: the files of its `run`, None where that stays, and among them
    the `rows` that were made of chats for it, None where there are none. `children` were trained
    from it and stay."""

    name: str
    run: Path | None
    rows: Path | None
    in_use: bool
    children: tuple[str, ...]

    @property
    def question(self) -> str:
        """What is to be answered with yes or no."""
        parts = [f"the adapter {self.name}"]
        if self.run is not None:
            parts.append(f"its training run in {self.run}")
        if self.rows is not None:
            parts.append(f"the copies of your chats in {self.rows} that it learned from")
        listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
        more = " It answers in new chats now; they will go without." if self.in_use else ""
        if self.children:
            more += f" What was trained from it stays: {', '.join(self.children)}."
        return f"Delete {listed} for good?{more}"


@dataclass(frozen=True, slots=True)
class Deleted:
    """What went: `freed` bytes of its run, and `left` in its folder what no run had made."""

    deletion: Deletion
    freed: int = 0
    left: tuple[Path, ...] = ()


def to_delete(name: str, *, with_data: bool = True) -> Deletion:
    """What `delete` would take. Raises AdapterError where there is none of that name."""
    library = installed_adapters()
    library.existing(name)
    run = None
    if with_data:
        with suppress(OpenChatError):  # one that is damaged goes alone
            run = run_of(library.info(name), data_home())
    rows = None if run is None or not (run / ROWS_IN_RUN).is_file() else run / ROWS_IN_RUN
    children = tuple(
        other for other in library.names()
        if (parent := parent_of(library.facts(other))) is not None
        and other != name
        and is_parent(parent, name, library.facts(name))
    )  # fmt: skip
    return Deletion(name, run, rows, in_use() == name, children)


def delete(name: str, *, with_data: bool = True, even_in_use: bool = False) -> Deleted:
    """Delete an adapter for good, with its run, which has the rows of chats that it was trained
    on, and nothing that is somebody else's. Raises as `carry_out` does."""
    return carry_out(to_delete(name, with_data=with_data), even_in_use=even_in_use)


def carry_out(what: Deletion, *, even_in_use: bool = False) -> Deleted:
    """Delete what `to_delete` found. New chats go without the adapter where it was in use.

    The adapter goes last: whatever kills the program, deleting it again goes on. Raises
    StillInUse, AdapterError, or RunError while its run is being trained.
    """
    library = installed_adapters()
    library.check_removable(what.name)
    used = in_use() == what.name
    if used and not even_in_use:
        raise StillInUse(
            f"{what.name} answers in new chats now: have another do that first, or none "
            f"(openchat-local adapters use {NO_ADAPTER})."
        )
    if what.run is not None:
        check_idle(what.run)
    if used:
        adopt_setting(NO_ADAPTER)
    freed, left = (0, []) if what.run is None else remove_run(what.run)
    library.remove(what.name)
    return Deleted(what, freed, tuple(left))


# From cards


def _version(
    adapter: InstalledAdapter, votes: Votes, adopted_at: float | None, *, in_use: bool
) -> Version:
    facts = adapter.facts
    run = run_of(adapter, data_home())
    noted: Mapping[str, Any] = {} if run is None else _read(run / "run.json")
    origin = parent_of(facts)
    parent = None if origin is None else installed_parent(installed_adapters(), origin)
    return Version(
        adapter.name,
        None if origin is None else origin.name,
        None if parent is None or parent.name == adapter.name else parent.name,
        adapter.file.card.base_name or "",
        run,
        _number(noted.get("begun")) or _modified(adapter.path),
        _trained_on(facts, noted),
        kept_findings(facts),
        votes,
        adopted_at,
        in_use,
        installed_adapters().scale(adapter.name),
    )


def _trained_on(facts: Mapping[str, Any], noted: Mapping[str, Any]) -> TrainedOn:
    counts = facts.get("counts")
    if not isinstance(counts, Mapping):
        try:
            classes = noted["data"]["train"]["classes"]
            counts = {str(one["rule"]["name"]): int(one["conversations"]) for one in classes}
        except (KeyError, TypeError, ValueError):
            counts = {}
    chats = noted.get(CHATS)
    chats = chats if isinstance(chats, Mapping) else {}
    count = chats.get("count")
    return TrainedOn(
        {str(name): int(count) for name, count in counts.items()},
        count if isinstance(count, int) else None,
        _number(chats.get("since")),
        _number(chats.get("until")),
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
