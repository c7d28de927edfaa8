"""Graded contenders in tables, sentences and rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from openchat_local.finetune.evaluation.grades.figures import ContenderFigures, Mean
from openchat_local.finetune.evaluation.grades.graded import GradedTurn
from openchat_local.finetune.evaluation.judging.grading import HIGHEST, LOWEST
from openchat_local.finetune.evaluation.result import Table, without_nan
from openchat_local.finetune.evaluation.statistics import Interval

_LISTED = 5


def summary_of(figures: Sequence[ContenderFigures], graded: Sequence[GradedTurn]) -> dict[str, Any]:
    """Every figure."""
    return {
        "contenders": [without_nan(asdict(one)) for one in figures],
        "ungraded": sum(one.grade.grade is None for one in graded),
    }


def tables_of(figures: Sequence[ContenderFigures], graded: Sequence[GradedTurn]) -> list[Table]:
    """Over all, by turn, by category, and what has no grade."""
    tables = [_overall(figures)]
    turns = list(dict.fromkeys(turn for one in figures for turn in one.turns))
    if len(turns) > 1:
        rows = [(f"{turn}", *(_mean(one.turns.get(turn)) for one in figures)) for turn in turns]
        tables.append(_by("turn", figures, rows))
    names = list(dict.fromkeys(name for one in figures for name in one.categories))
    if len(names) > 1:
        rows = [
            (name or "(none)", *(_mean(one.categories.get(name)) for one in figures))
            for name in names
        ]
        tables.append(_by("category", figures, rows))
    ungraded = [one for one in graded if one.grade.grade is None]
    if ungraded:
        listed = [
            (f"{one.of.prompt.line:,}", f"{one.of.turn + 1}", figures[one.of.contender].label,
             one.grade.error or "")
            for one in ungraded[:_LISTED]
        ]  # fmt: skip
        more = len(ungraded) - len(listed)
        note = f"and {more:,} more, in rows.jsonl" if more else ""
        tables.append(Table("Without a grade", ("line", "turn", "answer by", "why"), listed, note))
    return tables


def _overall(figures: Sequence[ContenderFigures]) -> Table:
    columns = ["", "answers", "graded", "mean", "95 %", "tokens"]
    rows = []
    compared = any(one.against_first for one in figures)
    for one in figures:
        row = [
            one.label,
            f"{one.all.answers:,}",
            f"{one.all.graded:,}",
            _figure(one.all.mean),
            _interval(one.all.interval),
            _figure(one.tokens, ".0f"),
        ]
        if (against := one.against_first) is not None:
            row += [_figure(against.difference, "+.2f"), _interval(against.interval, "+.2f")]
        elif compared:
            row += ["", ""]
        rows.append(tuple(row))
    if compared:
        columns += ["difference", "95 % "]
    note = f"Difference: from {figures[0].label}, answer by answer." if compared else ""
    return Table(f"Grades from {LOWEST} to {HIGHEST}", tuple(columns), rows, note)


def _by(what: str, figures: Sequence[ContenderFigures], rows: list[tuple[str, ...]]) -> Table:
    return Table(f"By {what}", (what, *(one.label for one in figures)), rows)


def sentences_of(figures: Sequence[ContenderFigures]) -> list[str]:
    """What it means."""
    first, *others = figures
    told = []
    if math.isnan(first.all.mean):
        told.append(f"The judge gave no grade to {first.label}.")
    elif not others:
        told.append(f"{first.label} has a mean grade of {first.all.mean:.2f}.")
    for one in others:
        against = one.against_first
        if against is None or math.isnan(against.difference):
            told.append(f"No answer of {one.label} and {first.label} has a grade on both sides.")
            continue
        said = (
            f"{one.label} is graded {abs(against.difference):.2f} "
            f"{'higher' if against.difference >= 0 else 'lower'} than {first.label} on "
            f"{against.answers:,} answers (95 % interval {_interval(against.interval, '+.2f')})"
        )
        means = "no difference that can be told from chance" if against.by_chance else (
            "better, by this judge" if against.difference > 0 else "worse, by this judge"
        )  # fmt: skip
        told.append(f"{said}: {means}.")
    return told


def notes_of(figures: Sequence[ContenderFigures], graded: Sequence[GradedTurn]) -> list[str]:
    """What did not count, and what a reader should know."""
    notes = []
    if cut := [one for one in figures if one.cut]:
        counts = " and ".join(f"{one.cut:,} of {one.label}" for one in cut)
        notes.append(
            f"Answers that were cut at the longest that was asked for, and graded so: {counts}."
        )
    if ungraded := sum(one.grade.grade is None for one in graded):
        notes.append(
            f"Without a grade: {ungraded:,} of {len(graded):,} answers. They count in no figure."
        )
    return notes


def rows_of(graded: Sequence[GradedTurn], labels: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One for each answer."""
    for one in graded:
        prompt, answer = one.of.prompt, one.of.answer
        asked = prompt.asked if one.of.turn == 0 else prompt.follow_ups[one.of.turn - 1]
        yield {
            "line": prompt.line,
            "name": prompt.name,
            "category": prompt.category,
            "turn": one.of.turn + 1,
            "by": labels[one.of.contender],
            "asked": asked,
            "answer": answer.text,
            "tokens": answer.tokens,
            "cut": answer.cut,
            "grade": one.grade.grade,
            "why": one.grade.why,
            "error": one.grade.error,
        }


def _mean(mean: Mean | None) -> str:
    if mean is None or math.isnan(mean.mean):
        return "—"
    return f"{mean.mean:.2f} ({mean.graded:,})"


def _figure(value: float, form: str = ".2f") -> str:
    return "—" if math.isnan(value) else format(value, form)


def _interval(interval: Interval, form: str = ".2f") -> str:
    if not all(map(math.isfinite, interval)):
        return "—"
    return " to ".join(format(end, form) for end in interval)
