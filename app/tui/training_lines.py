"""A run in words: for the status bar, for its screen, and when it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size

from openchat_local.app.printable import one_line
from openchat_local.app.wording import local_time
from openchat_local.finetune.run.course import Course, meaning
from openchat_local.models.units import memory_in_words, time_in_words

if TYPE_CHECKING:
    from openchat_local.finetune.run.events import Ending
    from openchat_local.finetune.run.known import KnownRun
    from openchat_local.finetune.run.run_state import RunState

BAR = 16  # cells
COMPARE, WATCH, LEARN = "/compare", "/training", "/learn"


def share(state: RunState) -> float:
    """How much of a run is done, from 0 to 1."""
    return min(state.step / state.steps, 1.0) if state.steps else 0.0


def status_word(state: RunState) -> str:
    """A run in the status bar; what stands after a comma can be left out."""
    done = f"{share(state) * 100:.0f} %"
    match state.phase:
        case "preparing":
            return "learning: preparing"
        case "finishing":
            return "learning: finishing"
        case "training":
            return ", ".join(filter(None, (f"learning: {done}", _left(state))))
        case "giving way":
            return f"learning: {done}, giving way"
        case "paused":
            return f"learning: paused, {done}"
        case "failed":
            return f"learning failed: {WATCH}"
        case "interrupted":
            return f"learning was cut off: {WATCH}"
    return f"learned: {COMPARE if state.outcome else WATCH}"


def _left(state: RunState) -> str:
    seconds = state.seconds_left
    return "" if seconds is None or state.step >= state.steps else f"{time_in_words(seconds)} left"


@dataclass(frozen=True, slots=True)
class Shown:
    """A run as its screen shows it. `can` are the names of the keys that do something to it."""

    name: str
    headline: str
    meaning: str
    figures: str
    notices: tuple[str, ...]
    course: Course
    can: frozenset[str]
    error: bool = False


def shown(name: str, state: RunState, course: Course, *, stopping: bool = False) -> Shown:
    """A run that the window follows; `stopping` where it was asked to stop."""
    can: set[str] = set()
    if stopping:
        pass
    elif state.phase in ("training", "giving way", "paused"):
        can |= {"pause", "stop"}
    elif state.phase == "preparing":
        can |= {"stop"}
    elif state.phase in ("failed", "interrupted") or _ending(state) == "interrupted":
        can |= {"resume"} if state.step or state.phase == "interrupted" else set()
    return Shown(
        one_line(name),
        headline(state, course, stopping=stopping),
        what_it_means(state, course),
        figures(state, course),
        tuple(course.notices),
        course,
        frozenset(can),
        error=state.phase == "failed",
    )


def headline(state: RunState, course: Course, *, stopping: bool = False) -> str:
    """How far it is, with a bar."""
    stopping &= state.at_work and state.phase != "finishing"
    full = round(share(state) * BAR)
    bar = "━" * full + "┄" * (BAR - full)
    doing = "stopping after this step" if stopping else _doing(state, course)
    parts = [f"{bar} {share(state) * 100:.0f} %", doing]
    if state.steps:
        parts.append(f"step {state.step:,} of {state.steps:,}")
    if state.phase == "training" and not stopping and (left := _left(state)):
        parts.append(f"about {left}")
    return "  ".join(parts)


def _doing(state: RunState, course: Course) -> str:
    match state.phase:
        case "preparing" | "finishing" if course.phase is not None:
            done = course.phase.fraction
            return one_line(course.phase.name) + ("" if done is None else f" {done * 100:.0f} %")
        case "training":
            return "learning"
        case "giving way":
            return "giving way to a reply"
        case "interrupted":
            return "cut off"
        case "ended":
            return "done" if _ending(state) == "finished" else "stopped early"
    return state.phase


def _ending(state: RunState) -> Ending | None:
    return None if state.outcome is None else state.outcome.ending


def figures(state: RunState, course: Course) -> str:
    """What the machine does, for those who want to know."""
    parts = []
    if state.tokens_per_second:
        parts.append(f"{state.tokens_per_second:,.0f} tokens/s")
    if state.memory:
        parts.append(f"{memory_in_words(state.memory)} of memory")
    if course.learning_rate:
        parts.append(f"learning rate {course.learning_rate:.1e}")
    return " · ".join(parts)


def what_it_means(state: RunState, course: Course) -> str:
    """The one sentence of the screen, for a layman."""
    match state.phase:
        case "failed":
            return state.problem or "It failed, and did not say why."
        case "interrupted":
            kept = "What it learned is kept" if state.step else "It had learned nothing yet"
            return f"It was cut off, as when the machine is switched off. {kept}."
        case "ended":
            if (ending := _ending(state)) is None:  # it has brought nothing, and says why
                return state.sentence
            said = f"{meaning(course, ending)} {COMPARE} lets you judge it blind."
            return f"Stopped early. {said}" if ending == "interrupted" else said
        case "preparing":
            return "Nothing to tell yet: the answers are read, and one step is tried for its size."
    return meaning(course)


def end_sentence(name: str, state: RunState, course: Course) -> str:
    """What stays to be read in the window when a run has ended."""
    name, said = one_line(name), what_it_means(state, course)
    if state.phase == "failed":
        return f"{name} could not be learned. {said}"
    if state.phase == "interrupted":
        return f"{name}: {said} {WATCH} goes on with it."
    whole = _ending(state) == "finished"
    return f"{name} is learned. {said}" if whole else f"{name}: {said}"


def closing_question(name: str, state: RunState) -> str:
    """What is asked when the window is to be closed while it learns."""
    how_far = ", ".join(filter(None, (f"{share(state) * 100:.0f} % done", _left(state))))
    return f"{one_line(name)} is being learned ({how_far})."


def known_line(run: KnownRun, width: int, *, marked: bool) -> str:
    """An earlier run in a line of `width` cells."""
    when = local_time(run.begun) if run.begun else ""
    right = f"{when:<16}  {run.state:<8}"
    room = max(8, width - cell_len(right) - 4)
    name = one_line(run.name)
    if cell_len(name) > room:
        name = set_cell_size(name, room - 1) + "…"
    return f"{'•' if marked else ' '} {set_cell_size(name, room)}  {right}"


def shown_known(run: KnownRun, settings: Mapping[str, Any], course: Course) -> Shown:
    """A run that the window does not follow, from what its folder tells."""
    if run.state == "damaged":
        problem = "Its run.json cannot be read, so nothing is known of it."
        return Shown(one_line(run.name), "", problem, "", (), course, frozenset(), error=True)
    outcome = settings.get("outcome") or {}
    stopped = run.state == "stopped"
    headline = f"{course.step:,} of {course.steps:,} steps  {run.state}"
    if run.state == "training":
        said = f"{meaning(course)} It is watched where it was begun."
    else:
        said = meaning(course, outcome.get("ending") or ("interrupted" if stopped else "finished"))
        said = f"Stopped early. {said}" if stopped else said
    facts = f"{one_line(run.model)} · {one_line(run.data)}"
    can = frozenset({"resume"} if stopped else ())
    return Shown(one_line(run.name), headline, said, facts, tuple(course.notices), course, can)
