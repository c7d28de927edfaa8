"""The flags of `finetune FILE` as the settings of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from openchat_local.app.cli.finetune_chats import NAME
from openchat_local.app.cli.finetune_options import take_data_options, take_optimizer_options
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.finetune.adapter.lora import LoraConfig
    from openchat_local.finetune.run.settings import RunSettings


def settings_of(file: Path | None, flags: dict[str, Any]) -> RunSettings:
    """The settings of a run on this file; None is the rows of chats in the run's own folder."""
    from openchat_local.app.engine import adapter_path, model_path
    from openchat_local.app.learning.recipe import data_options, learning_rate
    from openchat_local.app.learning.rows_file import ROWS_IN_RUN
    from openchat_local.app.paths import data_home
    from openchat_local.app.settings.model import load_settings
    from openchat_local.finetune.data.options import DataOptions
    from openchat_local.finetune.run.settings import RunSettings
    from openchat_local.finetune.run.supervisor import runs_folder
    from openchat_local.models.gguf import read_gguf
    from openchat_local.models.library.adapters import check_name, name_for

    given = {"model": flags["model"], "template": flags["template"]}
    app = load_settings(given)
    name = flags["name"] or (NAME if file is None else name_for(file.stem))
    check_name(name)
    base, start_from = model_path(app.model), adapter_path(flags["start_from"])
    options = take_data_options(flags)
    if file is None:
        folder = flags["out"] or runs_folder(data_home()) / name
        file = folder / ROWS_IN_RUN
        own = data_options(options.held_out, start_from).own_headers
        # The rows call it "class" and "reward", whatever the files that were mixed in do.
        plain = DataOptions(rewards=options.rewards, conditions=options.conditions)
        options = replace(
            plain,
            skip_bad=options.skip_bad,
            validation=options.validation,
            held_out=options.held_out,
            loss=options.loss,
            own_headers=own,
            thinking=True,  # as far as the rows of chats have thoughts, they were asked for
        )
        if not _was_given("learning_rate"):
            flags = flags | {"learning_rate": learning_rate(read_gguf(base))}
    return RunSettings(
        name=name,
        base=base,
        data=file.expanduser().absolute(),
        data_options=options,
        template=app.template,
        weights=flags["weights"] and flags["weights"].expanduser().absolute(),
        backend=flags["backend"],
        device=flags["device"],
        precision=flags["precision"],
        quantised=flags["quantised"],
        nf4=flags["nf4"],
        lora=_lora(flags, base, start_from),
        start_from=start_from,
        optimizer=take_optimizer_options(flags),
        floor=flags["floor"],
        seed=flags["seed"],
        max_length=flags["max_length"] or 0,
        tokens_per_step=flags["tokens_per_step"] or 0,
        packing=flags["packing"],
        checkpointing=flags["checkpointing"],
        epochs=flags["epochs"] or 0.0,
        steps=flags["steps"] or 0,
        minutes=flags["minutes"] or 0.0,
        patience=flags["patience"] or 0,
    )


def flags_to_chat(settings: RunSettings, flags: Mapping[str, Any]) -> list[str]:
    """What `chat` has to be told beside the adapter's name, where its own settings mean another
    model or template than the run does."""
    from openchat_local.app.engine import model_path
    from openchat_local.app.settings.model import load_settings

    usual, told = load_settings(), []
    try:
        same = model_path(usual.model) == settings.base
    except OpenChatError:  # such as one that is elsewhere
        same = False
    if flags["model"] and not same:
        told += ["-m", flags["model"]]
    if flags["template"] and flags["template"] != usual.template:
        told += ["--template", flags["template"]]
    return told


def _was_given(name: str) -> bool:
    source = click.get_current_context().get_parameter_source(name)
    return source is not ParameterSource.DEFAULT


def _lora(flags: dict[str, Any], base: Path, start_from: Path | None) -> LoraConfig:
    """The adapter that the flags describe; one that training goes on from stays as it is."""
    from openchat_local.finetune.adapter.layers import layer_targets
    from openchat_local.finetune.adapter.lora import LoraConfig
    from openchat_local.finetune.run.parent import lora_of
    from openchat_local.models.gguf import read_gguf

    if start_from is not None:
        lora = lora_of(start_from, read_gguf(base), flags["dropout"])
        _refuse_other_lora(flags, lora)
        return lora
    rank = flags["rank"] or 8
    targets = {"targets": layer_targets(flags["targets"])} if flags["targets"] else {}
    return LoraConfig(
        rank=rank,
        alpha=flags["alpha"] or 2.0 * rank,
        dropout=flags["dropout"],
        layers=flags["layers"],
        rslora=flags["rslora"],
        **targets,
    )


def _refuse_other_lora(flags: dict[str, Any], lora: LoraConfig) -> None:
    """Raise OpenChatError where flags contradict the adapter that training begins with."""
    from openchat_local.finetune.adapter.layers import layer_targets

    targets = flags["targets"] and set(layer_targets(flags["targets"]))
    against = [
        f"--{name} ({shown} in the adapter)"
        for name, same, shown in (
            ("rank", flags["rank"] in (None, lora.rank), lora.rank),
            ("alpha", flags["alpha"] in (None, lora.alpha), f"{lora.alpha:g}"),
            ("rslora", not flags["rslora"], "alpha / rank"),
            ("layers", flags["layers"] in (None, lora.layers), lora.layers or "all"),
            ("targets", targets in (None, "", set(lora.targets)), ",".join(lora.targets)),
        )
        if not same
    ]
    if against:
        raise OpenChatError(
            f"Training goes on from {flags['start_from']} as that is, and these contradict it: "
            f"{', '.join(against)}; leave them out, or begin without --start-from."
        )
