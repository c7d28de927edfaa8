"""What the screen of learning says: how much there is, what is missing, how long it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from openchat_local.app.printable import one_line
from openchat_local.app.tui.prepared import Amount, Counted, Planned, rows_of
from openchat_local.app.tui.screens.learn_begin import ON_BATTERY
from openchat_local.app.tui.widgets.learn_panel import Said
from openchat_local.app.wording import counted

if TYPE_CHECKING:
    from openchat_local.app.learning.selecting import Offers
    from openchat_local.app.learning.starting import LearningRequest
    from openchat_local.app.settings.model import Settings

NO_ROWS = "This chat is gone, or has no reply to learn from any more."
COUNTING = "Counting …"
PLANNING = "How long will it take? It is tried out …"
LEFT_OUT = {
    "private": "private",
    "deleted": "deleted",
    "imported": "imported",
    "nothing": "without a reply to learn from",
    "unjudged": "unrated",
    "cut": "broken off",
}
"""In few words, why chats and replies are left out."""


@dataclass(frozen=True, slots=True)
class Learner:
    """Who would learn: the model that answers in the window, and the adapter that it has.
    `tags` and `models` are those of the chats that are listed. `start_from` is the adapter that
    learning is to go on from, where one was chosen before."""

    model: str
    adapter: str | None = None
    template: str | None = None
    tags: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    start_from: str | None = None


@dataclass(frozen=True, slots=True)
class Learns:
    """Which file learns, the adapters that it can go on from, the one in use first, what is
    proposed as a name for what comes of it, and what it goes on from."""

    base: Path
    adapters: tuple[str, ...]
    name: str
    start_from: str | None = None


def first_request(learner: Learner, settings: Settings) -> LearningRequest:
    """What is chosen when the screen opens, before it is known who learns: in no time. Raises
    SettingsError."""
    from openchat_local.app.learning.rules import rules_of
    from openchat_local.app.learning.selecting import Selection
    from openchat_local.app.learning.starting import FIRST_NAME, LearningRequest

    base, rules = Path(learner.model), rules_of(settings)
    return LearningRequest(FIRST_NAME, base, Selection(), rules, template=learner.template)


def who_learns(learner: Learner, home: Path) -> Learns:
    """Looks at the model and at what is installed, and removes what dry runs left that were
    killed. Raises OpenChatError where there is no such model."""
    from openchat_local.app.engine import model_path
    from openchat_local.app.learning.planning import sweep
    from openchat_local.app.learning.starting import adapters_of, names_taken, proposed_name

    sweep(home)
    base = model_path(learner.model)
    adapters = sorted(adapters_of(base, home), key=lambda name: name != learner.adapter)
    start = learner.start_from if learner.start_from in adapters else None
    return Learns(base, tuple(adapters), proposed_name(names_taken(home), start), start)


def what_is_lacking() -> str:
    """Why nothing here can train and what to install, or "". Looks at what is installed."""
    from openchat_local.finetune.backends.choose import BackendError, find_backend

    try:
        find_backend()
    except BackendError as problem:
        return str(problem)
    return ""


def amounts(
    found: Offers, request: LearningRequest, counts: Mapping[str, int], known: Mapping[str, Amount]
) -> str:
    """How many chats and replies are taken, of each class; and how much is left out, and why."""
    excluded = request.selection.excluded
    chats = sum(offer.chat_id not in excluded for offer in found.offers)
    there = len(found.offers)
    shown = f"{chats:,} of {counted(there, 'chat')}" if chats < there else counted(chats, "chat")
    replies = sum(counts.values())
    said = f"{replies:,} {'reply' if replies == 1 else 'replies'}"
    classes = [str(rule.class_name) for rule in request.rules.classes]
    parts = [f"{counts.get(name, 0):,} {one_line(name)}" for name in classes]
    lines = [f"{shown}, {said}: {', '.join(parts)}"]
    total = sum(known.values(), Amount())
    if total.tokens:
        each = [f"{one_line(name)} {known[name].learned:,}" for name in classes if name in known]
        lines.append(f"{total.tokens:,} tokens, learned of these: {', '.join(each)}")
    if left_out := [
        f"{found.left_out[why]:,} {word}"
        for why, word in LEFT_OUT.items()
        if found.left_out.get(why)
    ]:
        lines.append(f"Left out: {', '.join(left_out)}")
    return "\n".join(lines)


def standing(
    offered: Offers,
    found: Counted | None,
    planned: Planned | None,
    lacking: str,
    told: Said,
) -> list[Said]:
    """What stands below the choices, the most pressing first; with what is amiss marked."""
    from openchat_local.app.learning.selecting import left_out_in_words

    said: list[Said] = []
    if told[0]:
        said.append(told)
    if lacking:
        said.append((lacking, True))
    if found is not None and found.problem:
        said.append((found.problem, True))
    if found is not None and found.short and found.short != told[0]:
        said.append((found.short, True))
    said += _plan(found, planned)
    if found is not None and found.complete:
        said += [(remark, False) for remark in found.remarks]
    left_out = " ".join(left_out_in_words(offered.left_out))
    return [*said, (left_out, False)] if left_out else said


def _plan(found: Counted | None, planned: Planned | None) -> list[Said]:
    if found is None or not found.complete:
        rows = rows_of(found.amounts) if found is not None else 0
        if found is not None and found.problem and not rows:
            return []
        return [(f"{COUNTING} {counted(rows, 'row')} so far." if rows else COUNTING, False)]
    if found.short is not None:
        return []
    if planned is None:
        return [(PLANNING, False)]
    if planned.problem:
        return [(planned.problem, True)]
    if planned.forecast is None:
        return [(f"{PLANNING[:-1]}({planned.phase}) …", False)]
    said: list[Said] = [(planned.forecast.in_words(), False)]
    if planned.forecast.on_battery:
        said.insert(0, (ON_BATTERY, True))
    return [*said, *((note, False) for note in planned.forecast.notes)]
