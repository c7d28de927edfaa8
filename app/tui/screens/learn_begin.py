"""Learning is begun: what is asked before, and what is said after."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from openchat_local.app.tui.questions.confirm import Confirm
from openchat_local.app.wording import counted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from textual.screen import Screen

    from openchat_local.app.chats import ChatStore
    from openchat_local.app.learning.starting import Begun, LearningRequest, Tried
    from openchat_local.app.tui.prepared import Counted, Planned

ON_BATTERY = "This machine runs on its battery, which training empties: plug it in first."


async def begin(
    store: ChatStore,
    home: Path,
    request: LearningRequest,
    found: Counted | None,
    planned: Planned | None,
    ask: Callable[[Screen[bool]], Awaitable[bool]],
) -> Begun | None:
    """Begin what the request, of very chats, asks for. None where something is amiss and the user
    thought better of it. Raises OpenChatError."""
    from openchat_local.app.learning.starting import begin_learning

    warning = await asyncio.to_thread(_warning, store, request, found)
    if warning and not await ask(Confirm(warning)):
        return None
    tried = _tried(found, planned)
    return await asyncio.to_thread(begin_learning, store, request, home, tried)


def _warning(store: ChatStore, request: LearningRequest, found: Counted | None) -> str:
    """What should be said yes to before it is begun; "" where nothing is amiss. Raises
    LearningError where there is nothing at all to learn, which no yes changes."""
    from openchat_local.app.learning.selecting import gather, shortfall
    from openchat_local.app.learning.starting import LearningError, on_battery

    if found is not None and found.complete:
        lessons, short = found.lessons, found.short
    else:  # Enter came before all was counted
        lessons = tuple(gather(store, request.selection, request.rules).lessons)
        short = shortfall(lessons)
    if not lessons and not request.mix:
        raise LearningError(str(short))
    parts = [sentence for sentence in (short, ON_BATTERY if on_battery() else "") if sentence]
    return "\n\n".join([*parts, "Begin all the same?"]) if parts else ""


def _tried(found: Counted | None, planned: Planned | None) -> Tried | None:
    """The plan, if it is known by now: then the run need not try for one itself."""
    from openchat_local.app.learning.starting import Tried

    if found is None or planned is None or planned.forecast is None:
        return None
    return Tried(found.lessons, planned.forecast.plan)


def begun_in_words(begun: Begun, found: Counted | None) -> str:
    """What the chat says when it is under way; `found` was on the screen."""
    from openchat_local.app.learning.selecting import left_out_in_words

    rows = len(begun.lessons)
    sentence = f"“{begun.run.name}” is being learned from {counted(rows, 'row')} of your chats."
    if gone := " ".join(left_out_in_words(begun.gone)):
        return f"{sentence} What went away since you looked: {gone}"
    if found is not None and found.complete and rows != len(found.lessons):
        before = counted(len(found.lessons), "row")
        return f"{sentence} They were changed since you looked: it was {before} then."
    return sentence
