"""A comparison in tables and sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from openchat_local.finetune.evaluation.compare.figures import (
    Figures,
    Judged,
    Lengths,
    WinRate,
)
from openchat_local.finetune.evaluation.compare.length_control import LengthControlled
from openchat_local.finetune.evaluation.compare.pairs import Answer, Dialogue
from openchat_local.finetune.evaluation.result import Table
from openchat_local.finetune.evaluation.statistics import Interval

SIGNIFICANT = 0.05


def tables_of(figures: Figures) -> list[Table]:
    """Who was preferred, over all and in each category; and how long the answers are."""
    rows = [_win_row("all", figures.overall)]
    rows += [_win_row(name or "(none)", rate) for name, rate in figures.categories]
    columns = ("prompts", "A better", "B better", "ties", "both bad", "win rate of A", "95 %")
    note = "Win rate: a win counts 1, a tie ½; where both were bad, nobody was preferred."
    lengths = [
        _length_row("characters", figures.characters),
        _length_row("tokens", figures.tokens),
    ]
    return [
        Table("Preferred", columns, rows, note),
        Table("Mean length", ("", "A", "B", "preferred", "the other"), lengths),
    ]


def sentences_of(figures: Figures, a: str, b: str) -> list[str]:
    """What it means."""
    overall = figures.overall
    if overall.rate is None or overall.interval is None:
        return [f"Neither A ({a}) nor B ({b}) was preferred anywhere, so there is no win rate."]
    said = (
        f"A ({a}) was preferred to B ({b}) on {_percent(overall.rate)} of "
        f"{_counted(overall.counted, 'prompt')} (95 % interval {_range(overall.interval)}; "
        f"sign test p = {figures.sign_test:.2g})"
    )
    better = a if overall.wins > overall.losses else b
    means = (
        f"{better} is better, by this judge"
        if figures.sign_test < SIGNIFICANT
        else "no difference that can be told from chance"
    )
    return [f"{said}: {means}.", *_by_likelihood(figures), _about_length(figures, overall.rate)]


def notes_of(figures: Figures, judged: Sequence[Judged]) -> list[str]:
    """What did not count, and what a reader should know."""
    notes = []
    if figures.same:
        notes.append(f"Equal answers, a tie each: {figures.same:,}.")
    if figures.skipped:
        notes.append(f"Skipped, not counted: {figures.skipped:,}.")
    if any(figures.cut):
        cut = " and ".join(f"{n:,} of {who}" for n, who in zip(figures.cut, "AB", strict=True) if n)
        notes.append(f"Answers that were cut at the longest that was asked for: {cut}.")
    if figures.failed:
        notes.append(f"Without a verdict, not counted: {_counted(figures.failed, 'pair')}.")
        notes += _listed(judged)
    swayed = sum(len(set(one.orders)) > 1 for one in judged if one.outcome is not None)
    if swayed:
        notes.append(
            f"Ties because the judge changed its mind when the answers changed places: {swayed:,}."
        )
    return notes


def summary_of(figures: Figures, a: str, b: str) -> dict[str, Any]:
    """Every figure, as JSON."""
    control = figures.length_controlled
    return {
        "a": a,
        "b": b,
        "win_rate": _rate_json(figures.overall),
        "sign_test_p": figures.sign_test,
        "length_controlled": _control_json(control),
        "preference": figures.preference and asdict(figures.preference),
        "categories": {name: _rate_json(rate) for name, rate in figures.categories},
        "characters": asdict(figures.characters),
        "tokens": asdict(figures.tokens),
        "skipped": figures.skipped,
        "without_verdict": figures.failed,
        "equal_answers": figures.same,
        "cut": dict(zip("ab", figures.cut, strict=True)),
    }


def rows_of(judged: Sequence[Judged]) -> Iterator[dict[str, Any]]:
    """Every pair as JSON, no longer blind."""
    for one in judged:
        pair, prompt = one.pair, one.pair.prompt
        yield {
            "line": prompt.line,
            "name": prompt.name,
            "category": prompt.category,
            "prompt": [prompt.asked, *prompt.follow_ups],
            "judged": one.outcome,
            "shown_first": "b" if pair.swapped else "a",
            "a": _dialogue(pair.a),
            "b": _dialogue(pair.b),
            "orders": [*one.orders],
            "why": one.why,
            "error": one.error,
            "preference": one.preference,
        }


def _win_row(name: str, rate: WinRate) -> tuple[str, ...]:
    counts = (rate.wins, rate.losses, rate.ties, rate.both_bad)
    share = "—" if rate.rate is None else _percent(rate.rate)
    interval = "—" if rate.interval is None else _range(rate.interval)
    return (name, *(f"{count:,}" for count in counts), share, interval)


def _length_row(unit: str, lengths: Lengths) -> tuple[str, ...]:
    values = (lengths.a, lengths.b, lengths.preferred, lengths.other)
    return (unit, *("—" if value is None else f"{value:,.0f}" for value in values))


def _about_length(figures: Figures, rate: float) -> str:
    control = figures.length_controlled
    if isinstance(control, str):
        return f"No length-controlled win rate: {control}."
    told = (
        f"Were answers equally long, A would be preferred on {_percent(control.rate)} "
        f"({_range(control.interval)})"
    )
    if figures.sign_test >= SIGNIFICANT:
        return f"{told}."
    if control.interval.low <= 0.5 <= control.interval.high:
        return f"{told}: the preference may be one for {_longer(figures, rate)} answers alone."
    if (control.rate > 0.5) == (rate > 0.5):
        return f"{told}: length alone does not explain it."
    return f"{told}: the other way round, so it is length that was preferred."


def _by_likelihood(figures: Figures) -> Iterator[str]:
    if (found := figures.preference) is not None:
        yield (
            f"The judge's own preference for A, the mean of both orders, is {_percent(found.mean)} "
            f"({_range(found.interval)})."
        )


def _longer(figures: Figures, rate: float) -> str:
    longer_a = figures.characters.a > figures.characters.b
    return "longer" if longer_a == (rate > 0.5) else "shorter"


def _listed(judged: Sequence[Judged], most: int = 5) -> Iterator[str]:
    failed = [one for one in judged if one.outcome is None]
    for one in failed[:most]:
        yield f"  line {one.pair.prompt.line}: {one.error}"
    if len(failed) > most:
        yield f"  … and {len(failed) - most:,} more"


def _dialogue(dialogue: Dialogue) -> list[dict[str, Any]]:
    return [_answer(answer) for answer in dialogue]


def _answer(answer: Answer) -> dict[str, Any]:
    return asdict(answer) | {"characters": len(answer.text)}


def _rate_json(rate: WinRate) -> dict[str, Any]:
    return asdict(rate) | {"interval": rate.interval and list(rate.interval)}


def _control_json(control: LengthControlled | str) -> Mapping[str, Any]:
    if isinstance(control, str):
        return {"rate": None, "why": control}
    return {
        "rate": control.rate,
        "interval": list(control.interval),
        "length_weight": control.length_weight,
    }


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _range(interval: Interval) -> str:
    return f"{100 * interval.low:.0f} to {100 * interval.high:.0f} %"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"
