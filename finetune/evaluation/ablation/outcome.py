"""All that an ablation measured, gathered from its folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from openchat_local.finetune.evaluation.ablation.figures import Losses
from openchat_local.finetune.evaluation.ablation.folder import AblationFolder
from openchat_local.finetune.evaluation.ablation.measuring import Measured, measured
from openchat_local.finetune.evaluation.ablation.planning import Ablation
from openchat_local.finetune.evaluation.ablation.prompted import InForm, in_form
from openchat_local.finetune.evaluation.ablation.recipes import BASE, LABELS, Recipe


@dataclass(frozen=True, slots=True)
class Asking:
    """How many held-out prompts were asked, how long an answer may be, and what the expert's
    answers look like."""

    prompts: int
    tokens: int
    form: re.Pattern[str]


@dataclass(frozen=True)
class Outcome:
    """`losses` are by the name of a recipe or BASE, as are `forms`: for every condition the counts
    of each seed. `spent` has the steps and tokens of a run by its name; `stopped` the runs that
    ended because their losses were not finite."""

    ablation: Ablation
    evaluator: str
    losses: Losses
    spent: Mapping[str, tuple[int, int]]
    stopped: tuple[str, ...]
    asking: Asking | None
    forms: Mapping[str, Sequence[Sequence[InForm]]]

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Name and label of the base and of every row of the ladder."""
        return [
            (BASE, LABELS[BASE]),
            *((recipe.name, recipe.label) for recipe in self.ablation.rows),
        ]

    @property
    def seeds(self) -> int:
        return len(self.ablation.seeds)

    @property
    def conditions(self) -> tuple[str, ...]:
        return self.ablation.data.conditions


def gather(
    ablation: Ablation, folder: AblationFolder, evaluator: str, asking: Asking | None = None
) -> Outcome:
    """What the folder has of an ablation that is done."""
    data = ablation.data
    classes = np.array([data.policy.index(one.class_name) for one in data.held_out], np.int64)
    conditions = range(len(data.conditions))

    def of_run(name: str) -> Measured:
        rows = folder.losses(name, evaluator).rows()
        return measured(rows, len(classes), len(conditions))

    recipes = [(BASE, None), *((recipe.name, recipe) for recipe in _recipes(ablation))]
    losses = {name: [of_run(run) for run in ablation.names(recipe)] for name, recipe in recipes}
    runs = [run for _, recipe in recipes[1:] for run in ablation.names(recipe)]
    forms: dict[str, list[list[InForm]]] = {}
    if asking is not None:
        for name, recipe in recipes:
            answers = [folder.answers(run).rows() for run in ablation.names(recipe)]
            forms[name] = [
                [
                    in_form(rows, asking.form, number, asking.prompts, asking.tokens)
                    for rows in answers
                ]
                for number in conditions
            ]
    return Outcome(
        ablation,
        evaluator,
        Losses(classes, losses),
        {run: folder.spent(run) for run in runs},
        tuple(run for run in dict.fromkeys(runs) if folder.ending(run) == "not finite"),
        asking,
        forms,
    )


def _recipes(ablation: Ablation) -> Iterator[Recipe]:
    """Of the ladder and of the sweeps, each once by its name."""
    yield from {
        recipe.name: recipe
        for recipe in (
            *ablation.rows,
            *(one for sweep in ablation.sweeps for _, line in sweep.series for _, one in line),
        )
    }.values()
