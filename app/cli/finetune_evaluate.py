"""`finetune evaluate`: what an adapter changed on conversations it was not trained on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openchat_local.app.cli.completing import complete_adapter_or_file, complete_model
from openchat_local.app.cli.finetune_options import (
    backend_options,
    evaluation_options,
    take_data_options,
)
from openchat_local.app.cli.options import template_options
from openchat_local.app.cli.walled import WalledCommand
from openchat_local.app.printable import printable
from openchat_local.app.wording import write_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table

    from openchat_local.finetune.evaluation.losses.measuring import Cell

_COUNT = click.IntRange(min=1)


@click.command(
    cls=WalledCommand, short_help="Measure an adapter on conversations it was not trained on."
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--adapter",
    metavar="NAME|FILE",
    help="What to measure beside the base model.",
    shell_complete=complete_adapter_or_file,
)
@click.option("--force", is_flag=True, help="Also where it was trained on another model.")
@click.option(
    "-m", "--model", metavar="NAME|FILE", help="The base model.", shell_complete=complete_model
)
@template_options
@click.option("--limit", type=_COUNT, metavar="N", help="The first N conversations of each class.")
@click.option("--max-length", type=_COUNT, metavar="TOKENS", help="Cut longer conversations.")
@backend_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@evaluation_options
def evaluate(file: Path, adapter: str | None, as_json: bool, **flags: Any) -> None:
    """Measure how well the answers in FILE are predicted, before and after fine-tuning.

    The loss of every class is taken under the condition of every class. Lower is better;
    what an adapter gained on answers that it was trained on says nothing.

    \b
      openchat-local finetune evaluate held-out.jsonl --adapter mine
    """
    from rich.console import Console

    notes: list[str] = []
    try:
        cells = _cells(file, adapter, take_data_options(flags), flags, notes.append)
    finally:  # not among the redraws of the bar
        for note in notes:
            click.echo(printable(note), err=True)
    if as_json:
        rows = [asdict(cell) | {"change": cell.change} for cell in cells]
        write_json({"file": str(file), "adapter": adapter, "losses": rows})
        return
    console = Console(highlight=False, markup=False)
    console.print(_table(cells))
    if adapter is not None:
        console.print(_verdict(cells[0]), soft_wrap=True)


def _cells(
    file: Path,
    adapter: str | None,
    options: Any,
    flags: dict[str, Any],
    tell: Callable[[str], None],
) -> list[Cell]:
    from openchat_local.app.cli.progress import Bar
    from openchat_local.app.engine import adapter_path, model_path
    from openchat_local.app.settings.model import load_settings
    from openchat_local.finetune.adapter.gguf_file import read_gguf_adapter
    from openchat_local.finetune.adapter.lora import LoraConfig
    from openchat_local.finetune.backends.choose import choose_backend
    from openchat_local.finetune.backends.trainer import OptimizerConfig
    from openchat_local.finetune.evaluation.losses.measuring import evaluate
    from openchat_local.finetune.run.plan import DEFAULT_MAX_LENGTH, keeps_quantised
    from openchat_local.models.gguf import read_gguf
    from openchat_local.models.library.adapter_file import check_fits, read_adapter
    from openchat_local.models.template import choose_template
    from openchat_local.models.template.vocabulary import Vocabulary

    backend = choose_backend(flags["backend"], flags["device"], flags["precision"])
    settings = load_settings({"model": flags["model"], "template": flags["template"]})
    base = read_gguf(model_path(settings.model))
    path = adapter_path(adapter)
    weights, lora, card = (None, LoraConfig(), None) if path is None else read_gguf_adapter(path)
    if path is not None:
        check_fits(read_adapter(path), base, force=flags["force"])
    named = settings.template or (card.template if card else None)
    template = choose_template(base, Vocabulary.open(base.path), named)
    quantised = keeps_quantised(base, backend, backend.free_memory())
    with Bar("loading the base model") as bar:
        trainer = backend.make(
            base, lora, OptimizerConfig(),
            seed=0, checkpointing=False, quantised=quantised,
        )  # fmt: skip
        bar.begin("measuring", 1.0)
        return evaluate(
            file, options, template, trainer, weights, card,
            context=min(flags["max_length"] or DEFAULT_MAX_LENGTH, base.context_length),
            batch_positions=backend.most_positions(quantised=quantised) or 4096,
            limit=flags["limit"],
            progress=bar.show,
            tell=tell,
        )  # fmt: skip


def _table(cells: list[Cell]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Loss of the answers, nats a token", title_justify="left", box=None)
    for name in ("class", "condition"):
        table.add_column(name)
    tuned = any(cell.adapter_loss is not None for cell in cells)
    for name in ("conversations", "tokens", "base", *(("adapter", "change") if tuned else ())):
        table.add_column(name, justify="right")
    for cell in cells:
        figures = [f"{cell.conversations:,}", f"{cell.tokens:,}", f"{cell.base_loss:.4f}"]
        if cell.adapter_loss is not None and cell.change is not None:
            error = f" ± {cell.standard_error:.4f}" if cell.standard_error else ""
            figures += [f"{cell.adapter_loss:.4f}", f"{cell.change:+.4f}{error}"]
        names = (cell.class_name, cell.condition or "(none)")
        table.add_row(*(Text(printable(name)) for name in names), *figures)
    return table


def _verdict(expert: Cell) -> str:
    """The first row is the best class under its own condition, which chat uses."""
    assert expert.change is not None
    about = f"{printable(expert.class_name)} answers under {expert.condition or 'no condition'!r}"
    if abs(expert.change) < 2 * expert.standard_error:
        return f"No difference that can be told from chance on {about}."
    verb = "better" if expert.change < 0 else "worse: this fine-tune did not help"
    return f"The adapter predicts {about} {verb}."
