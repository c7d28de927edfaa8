"""`finetune --resume` with other flags: what may change changes, the rest is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.finetune.run.directory import RunDirectory
    from openchat_local.finetune.run.settings import RunSettings

# Of this start, not of the run.
_OF_THIS_START = frozenset({"resume", "files", "dry_run", "replace", "background"})
_LIMITS = ("epochs", "steps", "minutes", "patience")
_WHAT_COMPUTES = ("backend", "device")  # the losses are the same on all, but for rounding


def changed_settings(ctx: click.Context, run: RunDirectory) -> tuple[dict[str, Any], list[str]]:
    """run.json as the flags on the command line make it, and sentences on what they change.

    Raises OpenChatError with every flag that contradicts the run.
    """
    from openchat_local.finetune.run.checkpoints import Progress
    from openchat_local.finetune.run.extension import Limits, extended
    from openchat_local.finetune.run.settings import RunSettings

    fields = run.stored()
    given = {
        name: value
        for name, value in ctx.params.items()
        if ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE
        and name not in _OF_THIS_START
    }
    stored = _stored(run, RunSettings.from_json(fields["settings"]))
    flags = {parameter.name: _flag(parameter, ctx.params) for parameter in ctx.command.params}
    against = [
        f"{flags[name]} ({_shown(stored[name]) if name in stored else 'as it began'} in the run)"
        for name, value in given.items()
        if name not in (*_LIMITS, *_WHAT_COMPUTES)
        and not (name in stored and _same(value, stored[name]))
    ]
    if against:
        raise OpenChatError(
            f"A run continues as it began, and these contradict the one in {run.path}: "
            f"{', '.join(against)}; leave them out, or begin a new run. Only --steps, --epochs, "
            "--minutes, --patience, --backend and --device may change."
        )
    checkpoint = run.checkpoints.latest()
    progress = Progress() if checkpoint is None else checkpoint.progress
    limits = {name: given[name] for name in _LIMITS if name in given}
    settings, sentence = extended(fields, progress, Limits(**limits))
    said = [] if sentence is None else [sentence]
    for name in _WHAT_COMPUTES:
        if name in given and given[name] != stored[name]:
            settings["settings"] = settings["settings"] | {name: given[name]}
            said.append(f"Continues with {flags[name]} {given[name]}, {stored[name]} before.")
    return settings, said


def _stored(run: RunDirectory, settings: RunSettings) -> dict[str, Any]:
    """What the flags of `finetune` were when the run began."""
    lora, data = settings.lora, settings.data_options
    return {
        "name": settings.name,
        "model": settings.base,
        "template": settings.template,
        "rank": lora.rank,
        "alpha": lora.alpha,
        "rslora": lora.rslora,
        "dropout": lora.dropout,
        "layers": lora.layers,
        "targets": lora.targets,
        **asdict(settings.optimizer),
        "floor": settings.floor,
        "max_length": settings.max_length or None,
        "tokens_per_step": settings.tokens_per_step or None,
        "checkpointing": settings.checkpointing,
        "seed": settings.seed,
        "packing": settings.packing,
        "backend": settings.backend,
        "device": settings.device,
        "precision": settings.precision,
        "quantised": settings.quantised,
        "nf4": settings.nf4,
        "weights": settings.weights,
        "out": run.path,
        "class_field": data.class_field,
        "classes": data.classes,
        "reward_field": data.reward_field,
        "reward_map": data.reward_map,
        "columns": dict(data.columns),
        "format": data.format,
        "thinking": data.thinking,
        "rewards": dict(data.rewards),
        "conditions": dict(data.conditions),
        "skip_bad": data.skip_bad,
        "validation": data.validation,
        "held_out": data.held_out,
        "loss": data.loss,
    }


def _same(given: Any, stored: Any) -> bool:
    from openchat_local.app.engine import model_path

    if isinstance(stored, Path):
        if not isinstance(given, Path):  # a model, by its name
            return model_path(given).resolve() == stored.resolve()
        return given.expanduser().resolve() == stored.resolve()
    if isinstance(stored, tuple) and not isinstance(given, tuple):
        return tuple(part.strip() for part in str(given).split(",")) == stored
    return bool(given == stored)


def _flag(parameter: click.Parameter, values: Mapping[str, Any]) -> str:
    """How the flag is written; of --this/--that, the one that was given."""
    if getattr(parameter, "secondary_opts", ()) and values.get(parameter.name or "") is False:
        return parameter.secondary_opts[0]
    return max(parameter.opts, key=len)


def _shown(value: Any) -> str:
    if value is None or value == {}:
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, Mapping):
        return " ".join(f"{key}={item}" for key, item in value.items())
    return str(value)
