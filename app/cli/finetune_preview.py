"""`finetune preview`: what a model will be taught, token by token."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openchat_local.app.cli.chat_selection import thinking_option
from openchat_local.app.cli.completing import complete_model
from openchat_local.app.cli.finetune_options import data_options, open_base, take_data_options
from openchat_local.app.cli.options import template_options
from openchat_local.app.cli.walled import WalledCommand
from openchat_local.app.printable import printable

if TYPE_CHECKING:
    from rich.text import Text

    from openchat_local.finetune.data.batches import Row
    from openchat_local.finetune.data.preview import Preview
    from openchat_local.models.template.vocabulary import Vocabulary

# From the weight of the best class to little: two colours that take turns, so that each token
# can be told from its neighbours, also where there are only sixteen. The last two: without.
_SHADES = (
    (0.75, ("black on green", "black on bright_green")),
    (0.25, ("black on cyan", "black on bright_cyan")),
    (0.0, ("black on yellow", "black on bright_yellow")),
)
_NO_WEIGHT = ("bright_black", "white")


@click.command(
    cls=WalledCommand, short_help="Show a few conversations token by token, coloured by weight."
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-m",
    "--model",
    metavar="NAME|FILE",
    help="Whose vocabulary and template to use.",
    shell_complete=complete_model,
)
@template_options
@click.option("--context", type=click.IntRange(min=2), metavar="TOKENS", help="Cut longer ones.")
@click.option(
    "-n", "--count", type=click.IntRange(min=1), default=3, show_default=True, help="How many."
)
@thinking_option
@data_options
def preview(file: Path, count: int, **flags: Any) -> None:
    """Show a few conversations of FILE as they would be trained on.

    The first of every class comes first. Colours tell the weight, beside that of the best
    class; without colours it stands in brackets. In a pipe, each token is a line: its weight,
    its id and its text, separated by tabs.
    """
    from openchat_local.app.cli.progress import output_console
    from openchat_local.app.settings.model import load_settings
    from openchat_local.finetune.data.preview import preview as previews

    options = take_data_options(flags)
    settings = load_settings({"model": flags["model"], "template": flags["template"]})
    base, template = open_base(settings.model, settings.template)
    context = flags["context"] or base.context_length
    console = output_console(soft_wrap=True)

    def tell(note: str) -> None:
        click.echo(printable(f"• {note}"), err=True)

    for shown in previews(file, options, template, context, count, tell):
        console.print(_heading(shown), style="bold")
        row = shown.weighed.row
        if row is None:
            console.print(f"dropped: it has {shown.weighed.dropped}\n")
        elif not console.is_terminal:
            sys.stdout.writelines(_lines(row, template.vocabulary))
        elif console.color_system is None or console.no_color:
            console.print(_marked(row, template.vocabulary), "", sep="\n")
        else:
            highest = max(shown.highest, float(row.weights.max()))
            text = _coloured(row, template.vocabulary, highest)
            console.print(_legend(row, highest), text, "", sep="\n")


def _heading(shown: Preview) -> str:
    example, rule, weighed = shown.example, shown.rule, shown.weighed
    condition = f"condition {rule.condition!r}" if rule.condition else "no condition"
    cut = ", cut to the context" if weighed.truncated else ""
    own = example.reward
    reward = f"reward {rule.reward:g}" if own is None else f"reward {own:g} of its own"
    return printable(
        f"# {shown.place}: {example.format}, class {rule.name!r}, {condition}, "
        f"{reward}, {weighed.tokens:,} tokens{cut}"
    )


def _lines(row: Row, vocabulary: Vocabulary) -> Iterator[str]:
    for id, weight in zip(row.ids.tolist(), row.weights.tolist(), strict=True):
        text = vocabulary.piece(id).decode("utf-8", "backslashreplace")
        yield f"{weight:.6g}\t{id}\t{repr(text)[1:-1]}\n"
    yield "\n"


def _coloured(row: Row, vocabulary: Vocabulary, highest: float) -> Text:
    """The tokens of a row; one that ends in mid-character shows with the next."""
    from rich.text import Text

    text = Text()
    for number, (piece, weight) in enumerate(_pieces(row, vocabulary)):
        text.append(piece, _shades(weight, highest)[number % 2])
    return text


def _marked(row: Row, vocabulary: Vocabulary) -> str:
    """The text of a row where nothing can be coloured: what has weight in brackets, with it."""
    runs = groupby(_pieces(row, vocabulary), key=itemgetter(1))
    texts = ((weight, "".join(piece for piece, _ in run)) for weight, run in runs)
    return "".join(f"⟦{weight:.3g}│{text}⟧" if weight else text for weight, text in texts)


def _pieces(row: Row, vocabulary: Vocabulary) -> Iterator[tuple[str, float]]:
    """Each token as a terminal may show it, and its weight."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for id, weight in zip(row.ids.tolist(), row.weights.tolist(), strict=True):
        piece = printable(decoder.decode(vocabulary.piece(id)))
        yield piece.replace("\n", "↵\n"), weight


def _legend(row: Row, highest: float) -> Text:
    from rich.text import Text

    text = Text("weight ")
    for weight in sorted({*row.weights.tolist()}, reverse=True):
        text.append(f" {weight:.3g} ", _shades(weight, highest)[0]).append(" ")
    return text


def _shades(weight: float, highest: float) -> tuple[str, str]:
    if not weight:
        return _NO_WEIGHT
    return next(shades for above, shades in _SHADES if weight / highest > above)
