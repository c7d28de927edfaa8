"""Options that several commands share, and what becomes of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from openchat_local.app.cli.completing import (
    complete_adapter_or_file,
    complete_condition,
    complete_model,
)
from openchat_local.models.errors import OpenChatError

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
_MODEL_NAMES = ("model", "adapter", "template", "condition", "context", "threads", "gpu_layers")


def model_options(command: Command) -> Command:
    """Options that say what to load."""
    return _decorated(command, _MODEL_OPTIONS)


def sampling_options(command: Command) -> Command:
    """Options that say how the next token is chosen."""
    return _decorated(command, _SAMPLING_OPTIONS)


def take_overrides(flags: dict[str, Any]) -> dict[str, Any]:
    """Remove the options above from `flags`; what `load_settings` wants of them."""
    overrides = {name: flags.pop(name) for name in _MODEL_NAMES if name in flags}
    overrides["sampling"] = {name: flags.pop(name) for name in _SAMPLING_NAMES if name in flags}
    if (thinking := overrides["sampling"].get("thinking")) is not None:
        overrides["sampling"]["thinking"] = "on" if thinking else "off"
    return overrides


def insist(question: str, otherwise: str) -> None:
    """Ask on stderr; for "no" raise OpenChatError(`otherwise`). Ctrl-C raises click.Abort."""
    if not click.confirm(question, err=True):
        raise OpenChatError(otherwise)


def _decorated(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command
