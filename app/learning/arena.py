"""All blind comparisons together: who won how often, and how strong each side is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from openchat_local.app.engine import installed_adapters
from openchat_local.app.learning.versions import Votes
from openchat_local.app.wording import counted
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.chats.votes import Side, Vote
    from openchat_local.finetune.evaluation.standings import Standing

ENOUGH = 20
"""Votes of one side below which an interval of its share is more than 0.4 wide (Wilson's, at one
half), which is next to nothing."""

Seats = Mapping[tuple[object, ...], str]
"""What each side is called, by `Side.version`."""


@dataclass(frozen=True, slots=True)
class Arena:
    """All votes, the newest first; the standings of who was in them; what a side is called; and
    what both are worth, in a sentence or two. `empty` counts votes that say nothing of one
    beside the other: both bad, or skipped."""

    votes: tuple[Vote, ...]
    standings: tuple[Standing[tuple[object, ...]], ...]
    names: Seats
    empty: int

    @property
    def sentences(self) -> tuple[str, ...]:
        """What to make of it."""
        return tuple(_sentences(self))

    def name_of(self, side: Side) -> str:
        return self.names[side.version]


def all_votes() -> list[Vote]:
    """The votes in the data home; none where there is no store yet. Raises OpenChatError."""
    from openchat_local.app.chats import ChatStore
    from openchat_local.app.chats.read_only import ReadOnlyStore, is_read_only
    from openchat_local.app.chats.store import DATABASE_NAME
    from openchat_local.app.paths import data_home

    home = data_home()
    if not (home / DATABASE_NAME).exists():
        return []
    store = ReadOnlyStore.open(home) if is_read_only(home) else ChatStore.open(home)
    try:
        return store.votes()
    finally:
        store.close()


def arena(votes: Sequence[Vote]) -> Arena:
    """The arena of these votes, which are in the order in which they were cast."""
    from openchat_local.finetune.evaluation.standings import Duel, bradley_terry

    duels = [
        Duel(vote.first.version, vote.second.version, vote.choice)
        for vote in votes
        if vote.choice in ("first", "second", "tie")
    ]
    sides = [side for vote in votes for side in (vote.first, vote.second)]
    return Arena(
        tuple(reversed(votes)),
        tuple(bradley_terry(duels)),
        _names(sides),
        len(votes) - len(duels),
    )


def votes_by_adapter(votes: Iterable[Vote]) -> dict[str, Votes]:
    """How often each adapter that is installed was chosen, by its name. One that was trained anew
    under its name has no votes of the old one's."""
    counts: dict[str, list[int]] = {}
    for vote in votes:
        outcomes = {"first": (0, 1), "second": (1, 0), "tie": (2, 2)}.get(vote.choice or "")
        sides = (vote.first, vote.second)
        if outcomes is None or sides[0].adapter == sides[1].adapter:
            continue  # under two conditions, say
        for side, outcome in zip(sides, outcomes, strict=True):
            if side.adapter is not None and _is_installed(side):
                counts.setdefault(side.adapter, [0, 0, 0])[outcome] += 1
    return {name: Votes(*found) for name, found in counts.items()}


def _is_installed(side: Side) -> bool:
    """Whether the adapter of that name is the very one that wrote."""
    assert side.adapter is not None
    if side.adapter_digest is None:
        return True
    try:
        path = installed_adapters().existing(side.adapter) / "adapter.gguf"
        status = path.stat()
        return _digest(path, status.st_size, status.st_mtime_ns) == side.adapter_digest
    except (OpenChatError, OSError):
        return False


@lru_cache(maxsize=256)
def _digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _names(sides: Iterable[Side]) -> dict[tuple[object, ...], str]:
    """Labels, made longer where two sides have the same: by condition, scale, model, bytes."""
    known = {side.version: side for side in sides}
    names = {version: side.label for version, side in known.items()}
    ways: list[Callable[[Side], str]] = [
        lambda side: f" · {side.condition or 'no condition'}",
        lambda side: f" × {side.scale:g}",
        lambda side: f" · {side.model}",
        lambda side: f" ({(side.adapter_digest or side.model_digest)[:6]})",
    ]
    for way in ways:
        alike: dict[str, list[tuple[object, ...]]] = {}
        for version, label in names.items():
            alike.setdefault(label, []).append(version)
        for versions in alike.values():
            if len({way(known[version]) for version in versions}) > 1:
                names |= {version: names[version] + way(known[version]) for version in versions}
    return names


def _sentences(found: Arena) -> Iterator[str]:
    if not found.standings:
        yield (
            "There is no vote yet: /compare shows two answers to your next prompts, and you say "
            "which is better."
        )
        return
    ranked = [one for one in found.standings if one.group == 0]
    best, second = ranked[:2]
    duels = sum(one.duels for one in found.standings) // 2
    if best.interval.low > second.interval.high:
        yield f"{found.names[best.label]} is ahead, and not by chance."
    else:
        yield (
            f"From {counted(duels, 'vote')}, nobody is ahead that chance might not have put there: "
            "the ranges overlap."
        )
    few = [found.names[one.label] for one in ranked if one.duels < ENOUGH]
    if few:
        yield (
            f"Fewer than {ENOUGH} votes were cast on {', '.join(few)}: take the order as a first "
            "impression."
        )
    if any(one.group for one in found.standings):
        yield "Some were never compared with the others, not even through a third: they are apart."
