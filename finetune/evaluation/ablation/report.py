"""An ablation as a result: figures for programs, tables, pictures and sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from openchat_local.finetune.evaluation.ablation.drawing import pictures
from openchat_local.finetune.evaluation.ablation.figures import Difference
from openchat_local.finetune.evaluation.ablation.outcome import Outcome
from openchat_local.finetune.evaluation.ablation.recipes import BASE
from openchat_local.finetune.evaluation.ablation.tables import all_tables, as_markdown
from openchat_local.finetune.evaluation.ablation.verdicts import verdicts
from openchat_local.finetune.evaluation.pictures import WITHOUT_PICTURES, pictures_available
from openchat_local.finetune.evaluation.result import Result, made_by


def report(outcome: Outcome, notes: list[str]) -> Result:
    """The result of an ablation that is done."""
    ablation = outcome.ablation
    pattern = ablation.common.pattern
    drawable = pictures_available()
    return Result(
        "ablation",
        f"What classes, conditions and rewards bring on {pattern.data.name}",
        made_by("ablation", files=_files(outcome), settings=_settings(outcome)),
        summary_of_outcome(outcome),
        sentences=verdicts(outcome),
        tables=all_tables(outcome),
        pictures=pictures(outcome) if drawable else [],
        notes=[*ablation.data.notes, *notes, *([] if drawable else [WITHOUT_PICTURES])],
        rows=list(_rows(outcome)),
    )


def markdown(result: Result) -> str:
    """ladder.md."""
    return as_markdown(result.title, result.sentences, result.tables)


def _files(outcome: Outcome) -> list[Any]:
    pattern = outcome.ablation.common.pattern
    validation = pattern.data_options.validation
    return [pattern.data, *([validation] if validation else [])]


def _settings(outcome: Outcome) -> dict[str, Any]:
    ablation = outcome.ablation
    return {
        **ablation.common.as_json(),
        "seeds": list(ablation.seeds),
        "evaluated_with": outcome.evaluator,
        "recipes": {
            name: asdict(recipe) | {"trained_as": recipe.name}
            for name, recipe in ablation.trained.items()
        },
    }


def summary_of_outcome(outcome: Outcome) -> dict[str, Any]:
    """Every figure: `ladder` by row, `pairs`, `sweeps`; losses in nats a token."""
    data = outcome.ablation.data
    names = [name for name, _ in outcome.rows]
    return {
        "classes": data.policy.as_json(),
        "conditions": list(data.conditions),
        "seeds": list(outcome.ablation.seeds),
        "token_budget": outcome.ablation.common.pattern.tokens,
        "ladder": [_row(outcome, name, label) for name, label in outcome.rows],
        "pairs": [
            {"row": name, "other": other, **_json(outcome.losses.difference(name, other, 0, 0))}
            for name in names
            for other in names
            if name != other
        ],
        "sweeps": {
            sweep.name: {
                label: [
                    {"at": value, **_row(outcome, recipe.name, recipe.label)}
                    for value, recipe in line
                ]
                for label, line in sweep.series
            }
            for sweep in outcome.ablation.sweeps
        },
    }


def _row(outcome: Outcome, name: str, label: str) -> dict[str, Any]:
    data, losses = outcome.ablation.data, outcome.losses
    found = []
    for index, rule in enumerate(data.policy.classes):
        conversations, tokens = losses.conversations(BASE, index)
        if not conversations:
            continue
        for number, condition in enumerate(data.conditions):
            loss = losses.loss(name, number, index)
            against = None if name == BASE else losses.difference(name, BASE, number, index)
            found.append(
                {
                    "class": rule.name,
                    "condition": condition,
                    "conversations": conversations,
                    "tokens": tokens,
                    "loss": loss.value,
                    "seeds": list(loss.seeds),
                    "against_base": None if against is None else _json(against),
                }
            )
    row: dict[str, Any] = {"row": name, "label": label, "losses": found}
    if name != BASE:
        runs = outcome.ablation.names(outcome.ablation.trained[name])
        row["runs"] = {
            run: dict(zip(("steps", "tokens"), outcome.spent[run], strict=True)) for run in runs
        }
    if name in outcome.forms:
        row["in_form"] = {
            condition: [asdict(one) for one in counts]
            for condition, counts in zip(outcome.conditions, outcome.forms[name], strict=True)
        }
    return row


def _json(found: Difference) -> dict[str, Any]:
    """JSON has no infinities."""
    low, high = found.interval
    interval = [low, high] if math.isfinite(low) and math.isfinite(high) else None
    return {
        "difference": found.value,
        "interval": interval,
        "seeds": list(found.seeds),
        "told_apart": found.certain,
    }


def _rows(outcome: Outcome) -> Iterator[dict[str, Any]]:
    """A run, a condition and a conversation each."""
    data = outcome.ablation.data
    for name, runs in outcome.losses.runs().items():
        seeds = [None] if name == BASE else list(outcome.ablation.seeds)
        for seed, run in zip(seeds, runs, strict=True):
            for number, sums in run.items():
                for example, (nats, tokens) in zip(data.held_out, sums, strict=True):
                    if tokens:
                        yield {
                            "row": name,
                            "seed": seed,
                            "condition": data.conditions[number],
                            "class": example.class_name,
                            "line": example.line,
                            "nats": round(float(nats), 6),
                            "tokens": int(tokens),
                        }
