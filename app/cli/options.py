"""Options that several commands share, and what becomes of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from openchat_local.app.cli.completing import (
    complete_adapter_or_file,
    complete_condition,
    complete_engine,
    complete_model,
)
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.settings.model import Settings

Command = TypeVar("Command", bound=Callable[..., Any])


class _Number(click.FloatRange):
    """A range that nan is outside of: it is neither below nor above one."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


class _Count(click.IntRange):
    """Up to what llama.cpp's 32 bits hold: a larger number would wrap around to a small one."""

    def __init__(self, least: int) -> None:
        super().__init__(least, 2**31 - 1)  # app.settings.LARGEST, whose module is heavy


def _named_file(ctx: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """The flag is another way to say `--template`."""
    if path is not None:
        from openchat_local.models.template.template_file import named

        if ctx.params.get("template") is not None:
            raise click.UsageError("--template and --template-file exclude each other: choose one.")
        ctx.params["template"] = named(path)
    return path


def template_options(command: Command) -> Command:
    """`--template`, and `--template-file`, which sets it as well."""
    name = click.option(
        "--template", is_eager=True, metavar="NAME",
        help="Chat template, instead of the model's own.",
    )  # fmt: skip
    file = click.option(
        "--template-file", type=click.Path(path_type=Path), expose_value=False, metavar="FILE",
        callback=_named_file, help="The same, as a file of Jinja text.",
    )  # fmt: skip
    return name(file(command))


_MODEL_OPTIONS = (
    click.option(
        "-m",
        "--model",
        metavar="NAME|FILE",
        help="A model's name, or a .gguf file.",
        shell_complete=complete_model,
    ),
    click.option(
        "--adapter",
        metavar="NAME|FILE",
        help='An adapter of the model; "none": none.',
        shell_complete=complete_adapter_or_file,
    ),
    click.option("--force", is_flag=True, help="Take an adapter of another model, too."),
    template_options,
    click.option(
        "--condition",
        metavar="TEXT",
        help='C-RLFT condition; "" for none.',
        shell_complete=complete_condition,
    ),
    click.option("--context", type=_Count(0), metavar="TOKENS", help="Context size."),
    click.option("--threads", type=click.IntRange(0, 1024), metavar="N", help="Decoding threads."),
    click.option("--gpu-layers", type=_Count(-1), metavar="N", help="On the GPU."),
)

_ENGINE_OPTIONS = (
    click.option(
        "--engine",
        metavar="NAME|URL",
        help="Another program answers, perhaps elsewhere: a name of the settings, or a URL.",
        shell_complete=complete_engine,
    ),
    click.option(
        "--api-key-env", metavar="NAME", help="The environment variable with its API key."
    ),
)

_SAMPLING_OPTIONS = (
    click.option("--temperature", type=_Number(0, 10), help="0 is greedy."),
    click.option("--top-k", type=_Count(0), help="0 for all tokens."),
    click.option("--top-p", type=_Number(0, 1, min_open=True), help="1 for all tokens."),
    click.option("--min-p", type=_Number(0, 1), help="0 for all tokens."),
    click.option("--repeat-penalty", type=_Number(0, 10, min_open=True), help="1: none."),
    click.option("--max-tokens", type=_Count(0), help="End the reply after so many; 0: never."),
    click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Makes the reply repeatable."),
    click.option(
        "--think/--no-think",
        "thinking",
        default=None,
        help="Have replies think first, or not, where the model can be asked.",
    ),
)

_SAMPLING_NAMES = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repeat_penalty",
    "max_tokens",
    "seed",
    "thinking",
)
_LOCAL_NAMES = ("template", "threads", "gpu_layers", "force", "adapter", "raw")
_MODEL_NAMES = ("model", "adapter", "template", "condition", "context", "threads", "gpu_layers")


def model_options(command: Command) -> Command:
    """Options that say what to load."""
    return _decorated(command, _MODEL_OPTIONS)


def engine_options(command: Command) -> Command:
    """Options that say which other program answers, if one does."""
    return _decorated(command, _ENGINE_OPTIONS)


def sampling_options(command: Command) -> Command:
    """Options that say how the next token is chosen."""
    return _decorated(command, _SAMPLING_OPTIONS)


def take_overrides(flags: dict[str, Any]) -> dict[str, Any]:
    """Remove the options above from `flags`; what `load_settings` wants of them."""
    overrides = {name: flags.pop(name) for name in _MODEL_NAMES if name in flags}
    overrides["sampling"] = {name: flags.pop(name) for name in _SAMPLING_NAMES if name in flags}
    if (thinking := overrides["sampling"].get("thinking")) is not None:
        overrides["sampling"]["thinking"] = "on" if thinking else "off"
    return overrides | take_engine(flags, overrides)


def take_engine(flags: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Remove `--engine` and `--api-key-env` from `flags`; what they and the model, the adapter and
    the context of `overrides`, which go with them, mean for the settings."""
    engine, key_name = flags.pop("engine", None), flags.pop("api_key_env", None)
    if engine is None:
        if key_name is not None:
            raise click.UsageError("--api-key-env is for --engine: give both.")
        if "@" not in (overrides.get("model") or ""):
            return {}
    from openchat_local.app.settings.remote_models import remote_model, with_engine

    model, adapter = overrides.get("model"), overrides.get("adapter")
    if engine is None:
        found = remote_model(model or "", ())
        if found is None or adapter is None:
            return {}
        model, engine = found.model, found.engine
    elif model is not None and "@" in model:
        raise click.UsageError("-m names an engine itself: leave --engine away, or what follows @.")
    overrides.pop("adapter", None)
    if adapter not in (None, "none"):
        model = f"{model or ''}::{adapter}"  # models.engine.remote.discovery.ADAPTER
    return with_engine(engine, model, key_name, overrides.pop("context", None))


def refuse_local(settings: Settings, flags: Mapping[str, Any]) -> None:
    """Raise UsageError for flags of an engine on this machine, where the settings name a remote
    one."""
    from openchat_local.app.settings.remote_models import remote_model

    given = [name for name in _LOCAL_NAMES if flags.get(name) not in (None, False)]
    if "raw" in given:
        given.remove("template")  # which is what --raw means by itself
    if given and remote_model(settings.model, settings.engines) is not None:
        names = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        one = len(given) == 1
        raise click.UsageError(
            f"{names} {'belongs' if one else 'belong'} to an engine of this machine, and "
            f"{settings.model} is another program's: leave {'it' if one else 'them'} away."
        )


def insist(question: str, otherwise: str) -> None:
    """Ask on stderr; for "no" raise OpenChatError(`otherwise`). Ctrl-C raises click.Abort."""
    if not click.confirm(question, err=True):
        raise OpenChatError(otherwise)


def _decorated(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command
