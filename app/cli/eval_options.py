"""Options that the evaluations share, and what becomes of a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from openchat_local.app.cli.completing import (
    complete_adapter_or_file,
    complete_condition,
    complete_model,
)
from openchat_local.app.cli.options import template_options
from openchat_local.app.contenders import BASE, ContenderError, contender_of

if TYPE_CHECKING:
    from openchat_local.finetune.evaluation.contender import Contender
    from openchat_local.finetune.evaluation.result import Result, Table
    from openchat_local.models.engine.protocol import Sampling
    from openchat_local.models.library.adapter_file import AdapterCard

Command = TypeVar("Command", bound=Callable[..., Any])

_CONTENDERS = (
    click.option(
        "-m", "--model", metavar="NAME|FILE", help="The base model.", shell_complete=complete_model
    ),
    click.option(
        "--adapter",
        "adapters",
        metavar="NAME|FILE",
        multiple=True,
        help="What is judged beside the base model; repeatable.",
        shell_complete=complete_adapter_or_file,
    ),
    click.option(
        "--condition",
        metavar="TEXT",
        help="Instead of each adapter's own.",
        shell_complete=complete_condition,
    ),
    click.option("--force", is_flag=True, help="Also adapters that were trained on another model."),
)
_RESULT = (
    click.option(
        "--out", type=click.Path(path_type=Path), metavar="DIR", help="Where the result goes."
    ),
    click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs."),
)
_DRAWING = (
    click.option(
        "--temperature", type=click.FloatRange(0, 10), default=0.0, show_default=True,
        help="Of what is written; 0 is greedy.",
    ),
    click.option(
        "--top-p", type=click.FloatRange(0, 1, min_open=True), default=0.95, show_default=True,
        help="1 for all tokens.",
    ),
    click.option(
        "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True,
        help="Of all that is drawn; the same draws again.",
    ),
    click.option(
        "--max-tokens", type=click.IntRange(1, 2**31 - 1), default=512, show_default=True,
        help="The longest answer.",
    ),
)  # fmt: skip


def _with(options: Sequence[Callable[[Command], Command]], command: Command) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def contender_options(command: Command) -> Command:
    """Options that `take_contenders` understands."""
    return _with(_CONTENDERS, template_options(command))


def result_options(command: Command) -> Command:
    """Options that `finish` understands."""
    return _with(_RESULT, command)


def sampling_options(command: Command) -> Command:
    """Options that `take_sampling` understands."""
    return _with(_DRAWING, command)


def take_sampling(flags: Mapping[str, Any]) -> Sampling:
    """How answers are drawn."""
    from openchat_local.models.engine.protocol import Sampling

    return Sampling(
        temperature=flags["temperature"],
        top_p=flags["top_p"],
        seed=flags["seed"],
        max_tokens=flags["max_tokens"],
    )


def take_contenders(
    flags: Mapping[str, Any], *, base: bool = True, sampling: Sampling | None = None
) -> list[Contender]:
    """The base model, if asked for, and then each adapter once. A condition that was asked for
    is everybody's. Raises ContenderError, ModelFileError or AdapterError."""
    names = list(dict.fromkeys(flags["adapters"]))
    words = [*([BASE] if base else []), *(name for name in names if name != BASE)]
    found = [
        contender_of(_label(word, words), {"adapter": word}, flags, sampling) for word in words
    ]
    say_where(found)
    return found


def say_where(contenders: Sequence[Contender]) -> None:
    """Say on standard error where words go that are asked of remote engines."""
    places = [one.remote.place() for one in contenders if one.remote is not None]
    for place in dict.fromkeys(places):
        click.echo(place.in_words(), err=True)


def _label(word: str, words: Sequence[str]) -> str:
    """A file is called by its name alone, unless another one has that as well."""
    from openchat_local.models.library.adapter_file import adapter_name

    def name(text: str) -> str:
        return adapter_name(Path(text)) if len(Path(text).parts) > 1 else text

    return name(word) if [name(other) for other in words].count(name(word)) == 1 else word


def take_with_cards(
    flags: Mapping[str, Any],
) -> tuple[list[Contender], dict[str, AdapterCard], str | None]:
    """The base and each adapter, the cards of these by their labels, and the name of the
    template that was asked for, else of that which all were trained with; None for the model's.

    Raises ContenderError, also where adapters were trained with several templates, whose tokens
    cannot be compared; ModelFileError or AdapterError.
    """
    from openchat_local.app.settings.model import load_settings
    from openchat_local.models.library.adapter_file import read_adapter

    first, *others = take_contenders(flags)
    contenders = [first, *(one for one in others if not one.is_base)]
    cards = {
        one.label: read_adapter(one.choice.path).card
        for one in contenders
        if one.choice.path is not None
    }
    asked = load_settings({"template": flags["template"]}).template
    found = {card.template: label for label, card in cards.items() if card.template}
    if asked is None and len(found) > 1:
        (one, first_label), (other, second_label) = list(found.items())[:2]
        raise ContenderError(
            f"{first_label} was trained with the template {one} and {second_label} with {other}: "
            f"measure them one by one, or choose one for all with --template {one}."
        )
    return contenders, cards, asked or next(iter(found), None)


def finish(result: Result, folder: Path, *, as_json: bool) -> None:
    """Keep the result, show it, and say where it is. Raises ResultError."""
    from openchat_local.app.printable import printable
    from openchat_local.app.wording import write_json
    from openchat_local.finetune.evaluation.keeping import write_result
    from openchat_local.finetune.evaluation.result import summary_of

    report = write_result(folder, result)
    for note in result.notes:
        click.echo(printable(note), err=True)
    if as_json:
        write_json(summary_of(result) | {"folder": str(folder)})
        return
    show(result.tables)
    for sentence in result.sentences:
        click.echo(printable(sentence))
    click.echo(f"The report: {printable(str(report))}", err=True)


def show(tables: Sequence[Table]) -> None:
    """Print tables to standard output."""
    from rich.table import Table as RichTable
    from rich.text import Text

    from openchat_local.app.cli.progress import output_console
    from openchat_local.app.printable import one_line
    from openchat_local.finetune.evaluation.page import numeric_columns

    console = output_console()
    for table in tables:
        shown = RichTable(title=Text(one_line(table.title)), title_justify="left", box=None)
        for name, right in zip(table.columns, numeric_columns(table), strict=True):
            shown.add_column(Text(one_line(name)), justify="right" if right else "left")
        for row in table.rows:
            shown.add_row(*(Text(one_line(cell)) for cell in row))
        console.print(shown)
        if table.note:
            console.print(Text(one_line(table.note)), soft_wrap=True)
        console.print()
