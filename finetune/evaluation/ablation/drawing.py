"""The ladder and the sweeps as pictures: how far each row is below the base."""

from __future__ import annotations

from openchat_local.finetune.evaluation.ablation.figures import Difference
from openchat_local.finetune.evaluation.ablation.outcome import Outcome
from openchat_local.finetune.evaluation.ablation.recipes import BASE, Sweep
from openchat_local.finetune.evaluation.pictures import (
    Estimate,
    bars_with_intervals,
    lines_with_intervals,
)
from openchat_local.finetune.evaluation.result import Picture

_CHANGE = "loss against the base, nats a token"


def pictures(outcome: Outcome) -> list[Picture]:
    """The ladder, and one for each sweep. Needs matplotlib."""
    rows = outcome.rows[1:]
    found = [_ladder(outcome)] if rows else []
    return [*found, *(_sweep(outcome, sweep) for sweep in outcome.ablation.sweeps)]


def _ladder(outcome: Outcome) -> Picture:
    rows = outcome.rows[1:]
    series = {
        f"under {condition or 'no condition'}": [
            _estimate(outcome.losses.difference(name, BASE, number, 0)) for name, _ in rows
        ]
        for number, condition in enumerate(outcome.conditions)
    }
    drawn = bars_with_intervals(
        [label for _, label in rows], series, value_label=_CHANGE, reference=0.0
    )
    return drawn.named("ladder", f"Held-out {_expert(outcome)!r} answers: lower is better.")


def _sweep(outcome: Outcome, sweep: Sweep) -> Picture:
    drawn = lines_with_intervals(
        [value for value, _ in sweep.series[0][1]],
        {
            label: [
                _estimate(outcome.losses.difference(recipe.name, BASE, 0, 0)) for _, recipe in line
            ]
            for label, line in sweep.series
        },
        x_label=sweep.x_label,
        y_label=_CHANGE,
    )
    caption = f"Held-out {_expert(outcome)!r} answers by the {sweep.x_label}: lower is better."
    return drawn.named(sweep.name, caption)


def _expert(outcome: Outcome) -> str:
    return outcome.ablation.data.policy.expert.name


def _estimate(found: Difference) -> Estimate:
    return Estimate(found.value, found.interval.low, found.interval.high)
