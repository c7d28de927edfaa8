"""Rows as they are trained on, in the colours of what each part of them weighs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from textual.content import Content

from openchat_local.app.printable import one_line, printable
from openchat_local.app.wording import counted

if TYPE_CHECKING:
    from openchat_local.app.learning.feedback import Lesson
    from openchat_local.app.learning.weighing import WeighedLesson

# From the weight of the best class to little; the last: what is read and not learned.
SHADES = (
    (0.75, "$text-success on $success-muted"),
    (0.25, "$text-primary on $primary-muted"),
    (0.0, "$text-warning on $warning-muted"),
)
TITLE_CHARACTERS = 80
NO_WEIGHT = "$foreground 55%"

Parts = Iterator[tuple[str, str]]


def legend() -> Content:
    """What the colours say."""
    words = ("fully", "half", "little")
    shown = [(f" {word} ", style) for word, (_, style) in zip(words, SHADES, strict=True)]
    return Content.assemble("Learned: ", *shown, (" only read", NO_WEIGHT))


def rows_text(
    rows: Sequence[tuple[Lesson, WeighedLesson | None]], highest: float, title: str
) -> Content:
    """The rows of a chat one below the other; `highest` is what the best class counts."""
    shown = one_line(title[:TITLE_CHARACTERS]) or "New chat"
    parts: list[tuple[str, str]] = [(f"{shown}\n", "bold")]
    for number, (lesson, weighed) in enumerate(rows, 1):
        parts.append((f"\n{heading(lesson, weighed, number, len(rows))}\n", "bold $text-primary"))
        if weighed is None:
            parts += _plain(lesson)
        elif weighed.dropped:
            parts.append((f"Not learned from: it has {weighed.dropped}.", NO_WEIGHT))
        else:
            parts += _painted(weighed, highest)
        parts.append(("\n", ""))
    return Content.assemble(*parts)


def heading(lesson: Lesson, weighed: WeighedLesson | None, number: int, of: int) -> str:
    """Which row it is, of which class, and what that means."""
    own = lesson.condition
    condition = f"under “{one_line(own)}”" if own else "under the model's own name for it"
    said = [f"Row {number} of {of}", one_line(lesson.class_name), condition]
    said.append(f"counts {lesson.reward:g}")
    if weighed is not None:
        said.append(f"{counted(weighed.tokens, 'token')}, {weighed.learned:,} learned")
        if weighed.cut:
            said.append("cut")
    return " · ".join(said)


def _painted(weighed: WeighedLesson, highest: float) -> Parts:
    marked = "NO_COLOR" in os.environ
    for text, weight in weighed.runs:
        shown = printable(text)
        if weight and marked:
            shown = f"⟦{weight:.3g}│{shown}⟧"
        yield shown, style_of(weight, highest)


def _plain(lesson: Lesson) -> Parts:
    """The turns, where nothing says how the model reads them."""
    if lesson.system_prompt:
        yield f"system: {printable(lesson.system_prompt)}\n", NO_WEIGHT
    for turn in lesson.turns:
        weight = lesson.reward if turn.weight is None else turn.weight
        learned = turn.role == "assistant" and weight > 0
        style = style_of(weight, max(weight, 1.0)) if learned else NO_WEIGHT
        yield f"{turn.role}: {printable(turn.content)}\n", style


def style_of(weight: float, highest: float) -> str:
    """How text of that weight looks."""
    if not weight:
        return NO_WEIGHT
    share = weight / highest if highest else 1.0
    return next(style for above, style in SHADES if share > above)
