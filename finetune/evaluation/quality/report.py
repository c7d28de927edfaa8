"""Grades and rewards of a training file as tables, sentences and rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from openchat_local.finetune.data.rewards import RewardRule
from openchat_local.finetune.evaluation.judging.grading import HIGHEST, LOWEST, Grade
from openchat_local.finetune.evaluation.quality.answers import Entries
from openchat_local.finetune.evaluation.quality.figures import (
    QUANTILES,
    ClassFigures,
    Overlap,
    class_figures,
    overlaps,
)
from openchat_local.finetune.evaluation.result import Table, without_nan
from openchat_local.finetune.evaluation.statistics import Interval

_LISTED = 5
_SHOWN = 200  # characters of an answer in a row


@dataclass(frozen=True, slots=True)
class Rewarded:
    """Rewards of a file: by which rule, and by the index of an entry, where it has a grade."""

    formula: str
    rewards: Mapping[int, float]


@dataclass(frozen=True)
class Quality:
    """A graded file. `grades` has one for each entry, in their order."""

    entries: Entries
    grades: Sequence[Grade]
    rewarded: Rewarded | None = None

    def by_class(self) -> dict[str, list[float]]:
        """The grades that there are, by class, in the file's order of classes."""
        found: dict[str, list[float]] = {}
        for entry, grade in zip(self.entries.entries, self.grades, strict=True):
            own = found.setdefault(entry.class_name, [])
            if grade.grade is not None:
                own.append(grade.grade)
        return found

    def ungraded(self) -> list[tuple[int, str]]:
        """Line and reason of each that has no grade."""
        return [
            (entry.line, grade.error or "")
            for entry, grade in zip(self.entries.entries, self.grades, strict=True)
            if grade.grade is None
        ]

    def figures(self) -> list[ClassFigures]:
        """Of every class, the best first."""
        counts: dict[str, int] = {}
        for entry in self.entries.entries:
            counts[entry.class_name] = counts.get(entry.class_name, 0) + 1
        found = [class_figures(name, counts[name], own) for name, own in self.by_class().items()]
        return sorted(found, key=lambda one: (math.isnan(one.mean), -one.mean, one.name))

    def overlaps(self) -> list[Overlap]:
        """Every two classes, the better first."""
        grades = self.by_class()
        return overlaps({one.name: grades[one.name] for one in self.figures()})


def reward(rule: RewardRule, grades: Sequence[Grade]) -> Rewarded:
    """What `rule` makes of those grades that there are."""
    graded = [(grade.index, grade.grade) for grade in grades if grade.grade is not None]
    worth = rule.rewards([grade for _, grade in graded]) if graded else []
    indices = [index for index, _ in graded]
    return Rewarded(rule.formula, dict(zip(indices, worth, strict=True)))


def summary_of(quality: Quality) -> dict[str, Any]:
    """Every figure."""
    return {
        "file": quality.entries.path.name,
        "classes": [without_nan(asdict(one)) for one in quality.figures()],
        "quantiles": QUANTILES,
        "overlaps": [without_nan(asdict(one)) for one in quality.overlaps()],
        "ungraded": [{"line": line, "why": why} for line, why in quality.ungraded()],
        "left_out": dict(quality.entries.left_out),
        "rewards": None if quality.rewarded is None else {
            "formula": quality.rewarded.formula,
            "classes": {name: list(own) for name, own in _rewards_by_class(quality).items()},
        },
    }  # fmt: skip


def tables_of(quality: Quality) -> list[Table]:
    """Grades, their histogram, how far classes lie apart, and rewards."""
    figures = quality.figures()
    unit = quality.entries.faults.unit
    tables = [_grades_table(figures), _histogram_table(figures)]
    if found := quality.overlaps():
        tables.append(_overlap_table(found))
    if quality.rewarded is not None and quality.rewarded.rewards:
        tables.append(_rewards_table(quality, quality.rewarded))
    if ungraded := quality.ungraded():
        rows = [(f"{line:,}", why) for line, why in ungraded[:_LISTED]]
        more = len(ungraded) - len(rows)
        note = f"and {more:,} more, in rows.jsonl" if more else ""
        tables.append(Table("Without a grade, and why", (unit, "why"), rows, note))
    return tables


def _grades_table(figures: Sequence[ClassFigures]) -> Table:
    shares = tuple("median" if share == 0.5 else f"{share:.0%}" for share in QUANTILES)
    rows = [
        (
            one.name,
            f"{one.answers:,}",
            f"{one.graded:,}",
            _figure(one.mean),
            _interval(one.interval),
            *(_figure(value) for value in one.quantiles),
        )
        for one in figures
    ]
    return Table(
        f"Grades from {LOWEST} to {HIGHEST}",
        ("class", "answers", "graded", "mean", "95 %", *shares),
        rows,
    )


def _histogram_table(figures: Sequence[ClassFigures]) -> Table:
    rows = [
        (f"{grade}", *(_count(one.histogram[place], one.graded) for one in figures))
        for place, grade in enumerate(range(LOWEST, HIGHEST + 1))
    ]
    return Table("Histogram", ("grade", *(one.name for one in figures)), rows)


def _overlap_table(found: Sequence[Overlap]) -> Table:
    rows = [
        (
            one.first,
            one.second,
            f"{one.difference:+.2f}",
            _interval(one.interval, signed=True),
            f"{one.better:.0%}",
            f"{one.common:.0%}",
        )
        for one in found
    ]
    return Table(
        "Overlap",
        ("class", "against", "difference", "95 %", "better", "in common"),
        rows,
        "better: how likely an answer of the first has the higher grade than one of the second, "
        "equal ones counting half; in common: the part that both histograms share.",
    )


def _rewards_by_class(quality: Quality) -> dict[str, tuple[int, float, float, float]]:
    """By class: how many have a reward, the mean of these, the least and the greatest."""
    assert quality.rewarded is not None
    own: dict[str, list[float]] = {}
    for entry in quality.entries.entries:
        rewards = own.setdefault(entry.class_name, [])
        if (reward := quality.rewarded.rewards.get(entry.answer.index)) is not None:
            rewards.append(reward)
    return {
        name: (len(found), float(np.mean(found)), min(found), max(found))
        for name, found in own.items()
        if found
    }


def _rewards_table(quality: Quality, rewarded: Rewarded) -> Table:
    rows = [
        (name, f"{count:,}", *(f"{value:.3g}" for value in values))
        for name, (count, *values) in _rewards_by_class(quality).items()
    ]
    pairs = sorted(
        {
            (grade.grade, rewarded.rewards[entry.answer.index])
            for entry, grade in zip(quality.entries.entries, quality.grades, strict=True)
            if grade.grade is not None
        }
    )
    step = max(1, math.ceil((len(pairs) - 1) / 9))
    shown = ", ".join(
        f"{grade:.3g} → {reward:.3g}" for grade, reward in [*pairs[:-1:step], pairs[-1]]
    )
    return Table(
        "Rewards",
        ("class", "conversations", "mean", "least", "greatest"),
        rows,
        f"Reward: {rewarded.formula}. {shown}.",
    )


def sentences_of(quality: Quality) -> list[str]:
    """What the figures mean."""
    figures = [one for one in quality.figures() if one.graded]
    if not figures:
        return ["The judge gave no grade at all, so nothing can be said of this file."]
    told = [
        f"{one.name!r} answers have a mean grade of {one.mean:.1f}; a tenth of them have "
        f"{one.quantiles[0]:.1f} or less."
        for one in figures
    ]
    return [*told, *(_told_apart(one) for one in quality.overlaps())]


def _told_apart(one: Overlap) -> str:
    low, high = one.interval
    if low <= 0 <= high:
        return (
            f"This judge cannot tell {one.first!r} from {one.second!r} answers: their means "
            f"differ by {one.difference:.2f}, with 0 in the interval. Either they are equally "
            "good, or it is no judge of them: do not make rewards of such grades."
        )
    return (
        f"{one.first!r} answers are graded {one.difference:.2f} higher than {one.second!r} ones; "
        f"taken one by one, an answer of the first has the higher grade in {one.better:.0%} of "
        f"pairs, and the histograms have {one.common:.0%} in common."
    )


def notes_of(quality: Quality) -> list[str]:
    """What was left out, and what a reader should know."""
    entries = quality.entries
    notes = [
        f"Conversations {reason}, which are not graded: {count:,}."
        for reason, count in entries.left_out.items()
    ]
    if entries.faults.lines:
        notes.append(f"Bad {entries.faults.unit}s, left out: {entries.faults.lines:,}.")
        notes += [f"{entries.path}, {text}" for text in entries.faults.listing()]
    if ungraded := quality.ungraded():
        notes.append(
            f"Without a grade: {len(ungraded):,} of {len(quality.grades):,} answers. They count "
            "in no figure."
        )
    if quality.rewarded is not None and quality.rewarded.rewards:
        notes += _reward_notes(quality, quality.rewarded)
    return notes


def _reward_notes(quality: Quality, rewarded: Rewarded) -> Iterator[str]:
    entries = quality.entries.entries
    without = len(quality.entries.places) - len(rewarded.rewards)
    if without:
        yield f"Conversations that keep what they or their class were worth: {without:,}."
    if nothing := sum(reward == 0 for reward in rewarded.rewards.values()):
        yield f"Conversations with a reward of 0, which are not learned: {nothing:,}."
    if weighed := sum(entry.weighed for entry in entries):
        yield (
            f"Conversations whose last answer has a weight of its own, which comes before the "
            f"reward: {weighed:,}. Take the weights of their turns away for the reward to count."
        )
    means = {name: values[1] for name, values in _rewards_by_class(quality).items()}
    if len(means) > 1 and not without:  # else the rewards of classes have a say as well
        yield (
            f"By mean reward {max(means, key=lambda name: means[name])!r} is worth most; finetune "
            "has one chat under the condition of the class worth most, and --reward CLASS=NUMBER "
            "there says which that is."
        )


def rows_of(quality: Quality) -> Iterator[dict[str, Any]]:
    """One for each answer that was to be graded."""
    rewards = {} if quality.rewarded is None else quality.rewarded.rewards
    for entry, grade in zip(quality.entries.entries, quality.grades, strict=True):
        text = entry.answer.text
        row = {
            "line": entry.line,
            "class": entry.class_name,
            "grade": grade.grade,
            "why": grade.why,
            "error": grade.error,
            "answer": text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…",
        }
        if quality.rewarded is not None:
            row["reward"] = rewards.get(entry.answer.index)
        yield row


def _figure(value: float) -> str:
    return "—" if math.isnan(value) else f"{value:.1f}"


def _interval(interval: Interval, *, signed: bool = False) -> str:
    if not all(map(math.isfinite, interval)):
        return "—"
    return " to ".join(f"{end:+.2f}" if signed else f"{end:.1f}" for end in interval)


def _count(count: int, of: int) -> str:
    return f"{count:,} ({count / of:.0%})" if of else "—"
