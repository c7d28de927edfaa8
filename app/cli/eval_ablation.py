"""`eval ablation DATA`: what classes, conditions and rewards each bring, on one's own data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openchat_local.app.cli.completing import complete_model
from openchat_local.app.cli.eval_options import result_options
from openchat_local.app.cli.finetune_options import (
    backend_options,
    evaluation_options,
    optimizer_options,
    take_data_options,
    take_optimizer_options,
)
from openchat_local.app.cli.options import template_options

if TYPE_CHECKING:
    from openchat_local.finetune.run.settings import RunSettings

_COUNT = click.IntRange(min=1)
_FILE = click.Path(path_type=Path)
LLAMA_CPP = "llama.cpp"
_MOST_SEEDS = 100


def _seeds(ctx: click.Context, parameter: click.Parameter, text: str) -> tuple[int, ...]:
    """ "3" is 0, 1 and 2; "0,7" are those two."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() and int(part) < 2**32 for part in parts):
        raise click.BadParameter(f"{text!r} is neither a number of seeds nor a list such as 0,1,2.")
    if "," not in text:
        if not 1 <= int(text) <= _MOST_SEEDS:
            raise click.BadParameter(f"{text!r} is not a number from 1 to {_MOST_SEEDS}.")
        return tuple(range(int(text)))
    return tuple(dict.fromkeys(int(part) for part in parts))


def _ratios(ctx: click.Context, parameter: click.Parameter, text: str) -> tuple[float, ...]:
    """ "1:1,1:0.3" are 1 and 0.3."""
    found = []
    for part in filter(None, map(str.strip, text.split(","))):
        first, colon, second = part.partition(":")
        try:
            ratio = float(second) / float(first) if colon else -1.0
        except (ValueError, ZeroDivisionError):
            ratio = -1.0
        if not 0 <= ratio <= 1:
            raise click.BadParameter(
                f"{part!r} is not the expert's reward and a smaller one, such as 1:0.3."
            )
        found.append(ratio)
    return tuple(dict.fromkeys(found))


def _shares(ctx: click.Context, parameter: click.Parameter, text: str) -> tuple[float, ...]:
    found = []
    for part in filter(None, map(str.strip, text.split(","))):
        try:
            share = float(part)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise click.BadParameter(f"{part!r} is not a share from 0 to 1.")
        found.append(share)
    return tuple(dict.fromkeys(found))


def _rows(ctx: click.Context, parameter: click.Parameter, text: str) -> tuple[str, ...]:
    from openchat_local.finetune.evaluation.ablation.recipes import ROWS

    if not text.strip():
        return ROWS
    names = [part.strip() for part in text.split(",") if part.strip()]
    if unknown := [name for name in names if name not in ROWS]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(ROWS)}.")
    return tuple(dict.fromkeys(names))


def _form(ctx: click.Context, parameter: click.Parameter, text: str | None) -> Any:
    try:
        return None if text is None else re.compile(text)
    except re.error as error:
        raise click.BadParameter(f"{text!r} is no regular expression: {error}.") from None


@click.command(short_help="What classes, conditions and rewards each bring, on DATA.")
@click.argument("data", type=_FILE)
@click.option(
    "-m", "--model", metavar="NAME|FILE", help="The base model.", shell_complete=complete_model
)
@template_options
@click.option(
    "--rows",
    default="",
    metavar="NAME,…",
    callback=_rows,
    help="Of base, sft-all, expert-only, condition-only, reward-only and c-rlft; all.",
)
@click.option(
    "--seeds", default="1", show_default=True, metavar="N|a,b,…", callback=_seeds,
    help="How many, or which.",
)  # fmt: skip
@click.option(
    "--reward-ratios", "ratios", default="", metavar="1:1,1:0.3,…", callback=_ratios,
    help="Also with these rewards of the expert and the others.",
)  # fmt: skip
@click.option(
    "--shares", default="", metavar="0.25,0.5,…", callback=_shares,
    help="Also with these shares of the others' conversations.",
)  # fmt: skip
@click.option("--val", "validation", type=_FILE, metavar="FILE", help="Held-out conversations.")
@click.option(
    "--held-out",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    help="Without --val: the share of DATA that no row is trained on.",
)
@click.option("--steps", type=_COUNT, help="Of every row; three times through all of DATA.")
@click.option("--tokens-per-step", type=_COUNT, metavar="TOKENS", help="Per optimizer step.")
@click.option("--rank", type=_COUNT, default=8, show_default=True, help="Of the adapters.")
@click.option("--max-length", type=_COUNT, metavar="TOKENS", help="Cut longer conversations.")
@click.option(
    "--loss", type=click.Choice(["per-token", "per-conversation"]), default="per-token",
    show_default=True, help="Every learned token counts alike, or every reply.",
)  # fmt: skip
@optimizer_options
@backend_options
@click.option(
    "--evaluate-with",
    type=click.Choice([LLAMA_CPP, "mlx", "torch"]),
    help="What measures: the backend that trains; llama.cpp is what one chats with.",
)
@click.option(
    "--parallel", type=click.IntRange(1, 64), default=1, show_default=True,
    help="Rows that are trained side by side, each in a process with the base of its own.",
)  # fmt: skip
@click.option("--prompts", type=_COUNT, metavar="N", help="Have N held-out prompts answered.")
@click.option(
    "--is-expert", "form", metavar="REGEX", callback=_form,
    help="What is found in an answer that is in the expert's form.",
)  # fmt: skip
@click.option(
    "--answer-tokens", type=_COUNT, default=64, show_default=True, help="The longest answer."
)
@click.option("--keep", is_flag=True, help="Install the adapters of the rows for chat.")
@result_options
@evaluation_options
def ablation(data: Path, out: Path | None, as_json: bool, **flags: Any) -> None:
    """Train the paper's ladder on DATA, whose answers are of two classes or more: on everything
    alike, on the expert's part, with conditions, with rewards, and with both (C-RLFT). Every row
    reads as many tokens, and is measured on the same held-out answers.

    \b
      openchat-local eval ablation mixed.jsonl --seeds 3
      openchat-local eval ablation mixed.jsonl --reward-ratios 1:1,1:0.3,1:0.1,1:0

    The same command goes on where it was stopped. More seeds, rows or sweeps add to what is there.
    """
    from openchat_local.app.cli.ablation_session import run_ablation
    from openchat_local.finetune.evaluation.ablation.outcome import Asking

    count, form = flags["prompts"], flags["form"]
    if (count is None) != (form is None):
        raise click.UsageError("--prompts and --is-expert belong together: give both or neither.")
    asking = None if form is None else Asking(count, flags["answer_tokens"], form)
    run_ablation(_settings(data, flags), flags, asking, out, as_json=as_json)


def _settings(data: Path, flags: dict[str, Any]) -> RunSettings:
    """What all rows have in common, but for what the data decide."""
    from openchat_local.app.engine import model_path
    from openchat_local.app.settings.model import load_settings
    from openchat_local.finetune.adapter.lora import LoraConfig
    from openchat_local.finetune.backends.choose import find_backend
    from openchat_local.finetune.run.settings import RunSettings

    app = load_settings({"model": flags["model"], "template": flags["template"]})
    rank = flags["rank"]
    return RunSettings(
        name="",
        base=model_path(app.model),
        data=data.expanduser().absolute(),
        data_options=take_data_options(flags),
        template=app.template,
        backend=find_backend(flags["backend"], flags["device"]),
        device=flags["device"],
        precision=flags["precision"],
        lora=LoraConfig(rank=rank, alpha=2.0 * rank),
        optimizer=take_optimizer_options(flags),
        floor=flags["floor"],
        max_length=flags["max_length"] or 0,
        tokens_per_step=flags["tokens_per_step"] or 0,
        steps=flags["steps"] or 0,
    )
