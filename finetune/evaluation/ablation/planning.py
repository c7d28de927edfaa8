"""An ablation before anything is trained: its data, its runs, and what each may spend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from openchat_local.finetune.evaluation.ablation.folder import Common, run_name
from openchat_local.finetune.evaluation.ablation.mixed_data import MixedData, read_mixed
from openchat_local.finetune.evaluation.ablation.recipes import (
    BASE,
    Recipe,
    Sweep,
    distinct,
    ladder,
    ratio_sweep,
    share_sweep,
)
from openchat_local.finetune.run.plan import DEFAULT_EPOCHS, max_length, usual_tokens_per_step
from openchat_local.finetune.run.settings import RunSettings
from openchat_local.models.gguf import GGUFFile
from openchat_local.models.template import Template


@dataclass(frozen=True)
class Ablation:
    """`rows` are the ladder's without the base, `trained` says by the name of every recipe which
    one is trained for it."""

    data: MixedData
    template: Template
    common: Common
    rows: tuple[Recipe, ...]
    sweeps: tuple[Sweep, ...]
    seeds: tuple[int, ...]
    trained: dict[str, Recipe]

    @property
    def runs(self) -> list[tuple[Recipe, int]]:
        """What is trained, the rows of the ladder first, one seed after the other."""
        recipes = {recipe.name: recipe for recipe in self.trained.values()}
        return [(recipe, seed) for seed in self.seeds for recipe in recipes.values()]

    def names(self, recipe: Recipe | None) -> list[str]:
        """The runs of a recipe, a seed each; of None, the base model."""
        if recipe is None:
            return [BASE]
        return [run_name(self.trained[recipe.name], seed) for seed in self.seeds]


def plan_ablation(
    pattern: RunSettings,
    base: GGUFFile,
    template: Template,
    *,
    rows: Sequence[str],
    seeds: Sequence[int],
    ratios: Sequence[float] = (),
    shares: Sequence[float] = (),
) -> Ablation:
    """Read the data and say what is to be trained.

    `pattern` is what a person asked for; every run reads as many tokens as `pattern.steps` steps
    of `pattern.tokens_per_step` would on all the data, or three times all of it. Raises
    DataError or AblationError.
    """
    context = max_length(pattern, base)
    data = read_mixed(pattern.data, pattern.data_options, template, context)
    per_step = pattern.tokens_per_step or usual_tokens_per_step(data.tokens)
    steps = pattern.steps or max(1, round(DEFAULT_EPOCHS * data.tokens / per_step))
    common = Common(
        # Nothing is held out of a run: the last adapter is measured, not that which is best on
        # what it is measured on.
        replace(pattern, tokens=steps * per_step, tokens_per_step=per_step, steps=0, validations=1),
        context,
        base.fingerprint,
        data.digests,
    )
    own = data.own_weights
    found = tuple(ladder(data.policy, rows, own_weights=own))
    sweeps = tuple(
        sweep
        for values, sweep in (
            (ratios, ratio_sweep(data.policy, ratios)),
            (shares, share_sweep(data.policy, shares, own_weights=own)),
        )
        if values
    )
    swept = [recipe for sweep in sweeps for _, line in sweep.series for _, recipe in line]
    # All rows of the ladder, wanted or not: what is trained has one name in every command.
    first = distinct([*ladder(data.policy, own_weights=own), *swept])
    trained = {recipe.name: first[recipe.name] for recipe in (*found, *swept)}
    trained |= {recipe.name: recipe for recipe in trained.values()}
    return Ablation(data, template, common, found, sweeps, tuple(seeds), trained)
