"""What can be chosen about learning beside the chats themselves: a row each, and its question."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_local.app.printable import one_line
from openchat_local.app.tui.questions.choose_one import ChooseOne
from openchat_local.app.tui.questions.line import AskLine
from openchat_local.app.tui.widgets.learn_panel import BEGIN, PanelRow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from textual.screen import Screen

    from openchat_local.app.learning.extra_files import ExtraFile
    from openchat_local.app.learning.selecting import Selection
    from openchat_local.app.learning.starting import LearningRequest

    Ask = Callable[[Screen[str | None]], Awaitable[str | None]]

DAY = 86_400.0
ANY = "any"
DAYS = {"all days": 0, "the last 30 days": 30, "the last 7 days": 7, "the last 24 hours": 1}
LENGTHS: Mapping[str, Mapping[str, Any]] = {
    "three times over": {},
    "once over": {"epochs": 1.0},
    "at most 10 minutes": {"minutes": 10.0},
    "at most an hour": {"minutes": 60.0},
    "a quick try, 10 steps": {"steps": 10},
}
SHARES = {"none": 0.0, "5 %": 0.05, "10 %": 0.1, "20 %": 0.2}
AS_IT_IS = "the model as it is"
LEFT_OUT, TAKEN = "left out", "taken too"


@dataclass(frozen=True, slots=True)
class Offered:
    """What there is to choose from: tags and models of chats, adapters of this model. The
    `days` that are chosen, since a selection knows but the moment, and how many conversations
    the files have that are learned from too."""

    tags: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    days: int = 0
    extra: int = 0


def choices(request: LearningRequest, offered: Offered) -> Iterator[PanelRow]:
    """All rows, as the request has them."""
    selection = request.selection
    yield PanelRow(BEGIN, "Begin to learn", "")
    yield PanelRow("name", "name", request.name)
    yield PanelRow("start", "begin with", request.start_from or AS_IT_IS)
    yield PanelRow("length", "how long", length_of(request))
    yield PanelRow("rules", "what counts", " › ".join(_classes(request)) or "nothing")
    yield PanelRow("days", "chats of", _named(DAYS, offered.days))
    yield PanelRow("tags", "tags", " ".join(f"#{tag}" for tag in sorted(selection.tags)) or ANY)
    yield PanelRow("model", "answered by", selection.model or f"{ANY} model")
    files = ", ".join(path.name for path in request.mix)
    yield PanelRow("mix", "files too", f"{files}: {offered.extra:,} rows" if files else "none")
    yield PanelRow("held_out", "kept back", _named(SHARES, request.held_out))
    yield PanelRow("imported", "imported", TAKEN if selection.imported else LEFT_OUT)
    yield PanelRow("cut_replies", "broken off", TAKEN if selection.cut_replies else LEFT_OUT)
    yield PanelRow("thinking", "thoughts", TAKEN if selection.thinking else LEFT_OUT)


def length_of(request: LearningRequest) -> str:
    """How long it is to take, as it was chosen."""
    now = {"epochs": request.epochs, "minutes": request.minutes, "steps": request.steps}
    set_now = {name: value for name, value in now.items() if value}
    return next((words for words, length in LENGTHS.items() if length == set_now), "as set")


async def ask_for(
    key: str, request: LearningRequest, offered: Offered, home: Path, ask: Ask
) -> tuple[LearningRequest, Offered]:
    """Ask for what the row `key` is about; the request as it is then, the same one after Esc.

    Raises OpenChatError for what cannot be.
    """
    screen = _question(key, request, offered)
    answer = await ask(screen)
    if answer is None:
        return request, offered
    match key:
        case "days":
            days = DAYS[answer]
            return _selecting(request, since=_since(days)), replace(offered, days=days)
        case "tags":
            tags = frozenset(word.lstrip("#") for word in answer.split()) - {""}
            return _selecting(request, tags=tags), offered
        case "model":
            model = None if answer == f"{ANY} model" else answer
            return _selecting(request, model=model), offered
        case "imported" | "cut_replies" | "thinking":
            return _selecting(request, **{key: answer == TAKEN}), offered
        case "mix":
            files = await _files(answer, request)
            extra = sum(file.conversations for file in files)
            mix = tuple(file.path for file in files)
            return replace(request, mix=mix), replace(offered, extra=extra)
        case "held_out":
            return replace(request, held_out=SHARES[answer]), offered
        case "start":
            return await _starting(request, None if answer == AS_IT_IS else answer, home), offered
        case "length":
            nothing: Mapping[str, Any] = {"epochs": 0.0, "minutes": 0.0, "steps": 0}
            return replace(request, **{**nothing, **LENGTHS[answer]}), offered
        case "name":
            from openchat_local.app.learning.starting import refuse_name

            await asyncio.to_thread(refuse_name, answer, home)
            return replace(request, name=answer), offered
    return request, offered


def _question(key: str, request: LearningRequest, offered: Offered) -> Screen[str | None]:
    now = next(choice for choice in choices(request, offered) if choice.key == key)

    def one_of(title: str, values: Sequence[str], hint: str) -> Screen[str | None]:
        return ChooseOne(title, values, now.value, hint)

    match key:
        case "days":
            return one_of("Chats of", tuple(DAYS), "By the day when a chat was last written in.")
        case "tags":
            known = " ".join(f"#{tag}" for tag in offered.tags[:20])
            hint = "Chats with one of these tags; empty for all." + (
                f" There are: {known}." if known else " No chat has a tag yet."
            )
            value = "" if now.value == ANY else now.value
            return AskLine("Tags", value, hint)
        case "model":
            values = (f"{ANY} model", *offered.models)
            return one_of("Answered by", values, "Chats that this model answers in.")
        case "imported":
            hint = "Chats that came from other programs. What their models wrote is not yours."
            return one_of("Imported chats", (LEFT_OUT, TAKEN), hint)
        case "cut_replies":
            hint = "Replies that you stopped, or that ended at the limit of their tokens."
            return one_of("Replies that broke off", (LEFT_OUT, TAKEN), hint)
        case "thinking":
            hint = "What a model thinks before it answers. Left out, the answer alone is learned."
            return one_of("Thoughts", (LEFT_OUT, TAKEN), hint)
        case "mix":
            hint = (
                "A file or a folder of conversations, or several with a comma between them: JSON, "
                "CSV, Parquet; messages, ShareGPT, Alpaca, prompt and completion, chosen and "
                "rejected. Those without a class count as your best. Empty for none."
            )
            return AskLine(
                "Files that are learned from too", ", ".join(map(str, request.mix)), hint
            )
        case "held_out":
            hint = "Rows that are not learned from: on them it shows whether it learns or repeats."
            return one_of("Kept back to measure on", tuple(SHARES), hint)
        case "start":
            hint = (
                "From the model as it is, everything is learned anew. Going on from an adapter "
                "keeps what that has learned, and leaves it as it is: choose chats that are new "
                "to it, the last days for example."
            )
            return one_of("Begin with", (AS_IT_IS, *offered.adapters), hint)
        case "length":
            hint = "How often everything is gone through. You can stop at any time and keep it."
            return one_of("How long", tuple(LENGTHS), hint)
    return AskLine("Name", request.name, "What is learned is kept, and chosen in a chat, by it.")


async def _files(answer: str, request: LearningRequest) -> list[ExtraFile]:
    """The files that were named, each looked at. Raises OpenChatError."""
    from openchat_local.app.learning.extra_files import look_at_file

    names = [part.strip() for part in answer.split(",")]

    def look() -> list[ExtraFile]:
        paths = [Path(name).expanduser().absolute() for name in names if name]
        return [look_at_file(path, request.rules) for path in dict.fromkeys(paths)]

    return await asyncio.to_thread(look)


async def _starting(request: LearningRequest, adapter: str | None, home: Path) -> LearningRequest:
    """Begin with something else; a name that was proposed for what was before is another."""
    from openchat_local.app.learning.starting import names_taken, proposed_name

    taken = await asyncio.to_thread(names_taken, home)
    name = request.name
    if name == proposed_name(taken, request.start_from):
        name = proposed_name(taken, adapter)
    return replace(request, start_from=adapter, name=name)


def _selecting(request: LearningRequest, **changes: Any) -> LearningRequest:
    selection: Selection = replace(request.selection, **changes)
    return replace(request, selection=selection)


def _since(days: int) -> float | None:
    return time.time() - days * DAY if days else None


def _named(table: Mapping[str, Any], value: object) -> str:
    return next((words for words, known in table.items() if known == value), str(value))


def _classes(request: LearningRequest) -> list[str]:
    return [one_line(str(rule.class_name)) for rule in request.rules.classes]
