"""Options that say what a file of conversations means, and what becomes of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from openchat_local.finetune.backends.trainer import OptimizerConfig
    from openchat_local.finetune.data.options import DataOptions
    from openchat_local.finetune.data.reading import Reading
    from openchat_local.models.gguf import GGUFFile
    from openchat_local.models.template import Template

_ROW_FLAGS = (
    "class_field", "classes", "reward_field", "reward_map", "columns", "format", "thinking",
)  # fmt: skip
_FORMATS = (
    "messages", "alpaca", "prompt", "preference", "completions", "tree", "transcript",
)  # fmt: skip
Command = TypeVar("Command", bound=Callable[..., Any])


def _pairs(
    ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise click.BadParameter(f"{text!r} does not have the form {parameter.metavar}.")
        if name.strip() in pairs:
            raise click.BadParameter(f"{name.strip()!r} is given twice.")
        pairs[name.strip()] = value
    return pairs


def _rewards(
    ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> dict[str, float]:
    rewards = {}
    for name, value in _pairs(ctx, parameter, given).items():
        try:
            rewards[name] = float(value)
        except ValueError:
            rewards[name] = math.nan
        if not 0 <= rewards[name] <= 1e6:
            raise click.BadParameter(f"{value!r} is not a number from 0 to 1,000,000.")
    return rewards


def _columns(ctx: click.Context, parameter: click.Parameter, given: str | None) -> dict[str, str]:
    listed = _pairs(ctx, parameter, tuple(given.split(",")) if given else ())
    return {name: value.strip() for name, value in listed.items()}


_FILE = click.Path(path_type=Path)
_ROW_OPTIONS = (
    click.option(
        "--class-field",
        metavar="FIELD",
        help='The field that holds the class, instead of "class" or "condition".',
    ),
    click.option(
        "--classes",
        metavar="NAME>=NUMBER,…",
        help='With --class-field: classes by a number, such as "good>=4,fair>=2.5,poor".',
    ),
    click.option(
        "--reward-field",
        metavar="FIELD",
        help="A number that says what each answer is worth, such as score.",
    ),
    click.option(
        "--reward-map",
        metavar="RULE",
        help="From that number to the reward: min-max, which it is, 0:0,10:1, exp=BETA, …",
    ),
    click.option(
        "--columns",
        metavar="prompt=NAME,…",
        callback=_columns,
        help="What the fields of the rows are, such as prompt=question,completion=answer.",
    ),
    click.option(
        "--format",
        type=click.Choice(_FORMATS),
        help="What the rows are, where their fields could mean several things.",
    ),
)
_DATA_OPTIONS = (
    click.option(
        "--reward",
        "rewards",
        multiple=True,
        metavar="CLASS=NUMBER",
        callback=_rewards,
        help="What the answers of a class are worth, from 0 up; repeatable.",
    ),
    click.option(
        "--condition",
        "conditions",
        multiple=True,
        metavar="CLASS=TEXT",
        callback=_pairs,
        help="What its role headers say; repeatable.",
    ),
    click.option("--skip-bad", is_flag=True, help="Leave bad lines out, and list them."),
    click.option(
        "--val", "validation", type=_FILE, metavar="FILE", help="Conversations to validate on."
    ),
    click.option(
        "--held-out",
        type=click.FloatRange(0, 1, max_open=True),
        default=0.05,
        show_default=True,
        help="Without --val: the share of FILE to validate on.",
    ),
    click.option(
        "--loss",
        type=click.Choice(["per-token", "per-conversation"]),
        default="per-token",
        show_default=True,
        help="Every learned token counts alike, or every reply, however long it is.",
    ),
)
_OPTIMIZER_OPTIONS = (
    click.option(
        "--learning-rate",
        type=click.FloatRange(0, 1, min_open=True),
        default=2e-4,
        show_default=True,
        help="AdamW's, at its highest: after a twentieth of the steps.",
    ),
    click.option(
        "--min-learning-rate",
        "floor",
        type=click.FloatRange(0, 1),
        metavar="SHARE",
        default=0.1,
        show_default=True,
        help="What is left of it at the last step, as a share; a cosine lies between.",
    ),
    click.option(
        "--weight-decay",
        type=click.FloatRange(0, 1),
        default=0.0,
        show_default=True,
        help="AdamW's.",
    ),
    click.option(
        "--betas",
        type=(click.FloatRange(0, 1, max_open=True), click.FloatRange(0, 1, max_open=True)),
        default=(0.9, 0.95),
        show_default=True,
        help="AdamW's.",
    ),
    click.option(
        "--epsilon",
        type=click.FloatRange(0, 1, min_open=True),
        default=1e-8,
        show_default=True,
        help="AdamW's.",
    ),
    click.option(
        "--clip",
        type=click.FloatRange(0),
        default=1.0,
        show_default=True,
        help="The largest norm of a step's gradient; 0 for no limit.",
    ),
)
_BACKEND_OPTIONS = (
    click.option("--backend", default="auto", show_default=True, help="mlx, torch, or the faster."),
    click.option("--device", default="auto", metavar="NAME", help="torch's: cuda:1, mps, cpu, …"),
    click.option(
        "--precision",
        type=click.Choice(["auto", "float32", "bfloat16"]),
        default="auto",
        help="Of the products; the fastest that the device has.",
    ),
)


def data_options(command: Command) -> Command:
    """Options that `take_data_options` understands."""
    for option in reversed((*_ROW_OPTIONS, *_DATA_OPTIONS)):
        command = option(command)
    return command


def optimizer_options(command: Command) -> Command:
    """Options that `take_optimizer_options` understands, and the flag `floor`."""
    for option in reversed(_OPTIMIZER_OPTIONS):
        command = option(command)
    return command


def take_optimizer_options(flags: dict[str, Any]) -> OptimizerConfig:
    """What the options above say of AdamW."""
    from openchat_local.finetune.backends.trainer import OptimizerConfig

    names = ("learning_rate", "betas", "epsilon", "weight_decay", "clip")
    return OptimizerConfig(**{name: flags[name] for name in names})


def evaluation_options(command: Command) -> Command:
    """Those of `data_options` that mean something without training."""
    for option in reversed((*_ROW_OPTIONS, *_DATA_OPTIONS[:3])):
        command = option(command)
    return command


def reading_options(command: Command) -> Command:
    """Those of `evaluation_options` but for `--condition`."""
    for option in reversed((*_ROW_OPTIONS, _DATA_OPTIONS[0], _DATA_OPTIONS[2])):
        command = option(command)
    return command


def row_options(command: Command) -> Command:
    """Those that say how rows are to be read, and which `take_reading` understands."""
    for option in reversed(_ROW_OPTIONS):
        command = option(command)
    return command


def take_reading(flags: Mapping[str, Any]) -> Reading:
    """How rows are to be read. Raises OpenChatError for words that say nothing."""
    from openchat_local.finetune.data.options import DataOptions

    return DataOptions(**{n: flags[n] for n in _ROW_FLAGS if n in flags}).reading


def backend_options(command: Command) -> Command:
    """What computes: the flags `backend`, `device` and `precision`."""
    for option in reversed(_BACKEND_OPTIONS):
        command = option(command)
    return command


def take_data_options(flags: dict[str, Any]) -> DataOptions:
    """Remove the options above from `flags`."""
    from openchat_local.finetune.data.options import DataOptions

    names = (
        *_ROW_FLAGS, "rewards", "conditions", "skip_bad", "validation", "held_out", "loss",
    )  # fmt: skip
    taken = {name: flags.pop(name) for name in names if name in flags}
    if taken.get("validation") is not None:  # a run may be continued from another folder
        taken["validation"] = taken["validation"].expanduser().absolute()
    options = DataOptions(**taken)
    options.check()
    return options


def open_base(model: str, template: str | None) -> tuple[GGUFFile, Template]:
    """The header and the template of a model; its weights are not read.

    Raises ModelFileError or TemplateError.
    """
    from openchat_local.app.engine import model_path
    from openchat_local.models.gguf import read_gguf
    from openchat_local.models.template import choose_template
    from openchat_local.models.template.vocabulary import Vocabulary

    file = read_gguf(model_path(model))
    return file, choose_template(file, Vocabulary.open(file.path), template)


def check_vocabulary(path: Path) -> None:
    """Let llama.cpp read the vocabulary of the model at `path` where it may die of it.

    Raises ModelFileError, ModelLoadError or EngineDied.
    """
    from contextlib import closing

    from openchat_local.app.engine import vocabulary_engine
    from openchat_local.models.template.raw_template import RAW

    # A model that has no template of its own is trained under the one that is asked for.
    with closing(vocabulary_engine(path, template=RAW)) as engine:
        engine.load()
