"""`finetune runs`: the training runs on this machine, listed and removed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from openchat_local.app.cli.options import insist
from openchat_local.app.printable import one_line
from openchat_local.app.wording import local_time, write_json
from openchat_local.models.units import size_in_words

if TYPE_CHECKING:
    from openchat_local.finetune.run.background import BackgroundRun
    from openchat_local.finetune.run.known import KnownRun


@click.command(short_help="List the training runs, or remove one.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON, one run a line.")
@click.option("--remove", metavar="NAME|DIR", help="Delete this run for good instead.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def runs(as_json: bool, remove: str | None, yes: bool) -> None:
    """List the training runs: name, model, when it was begun, size, and how it stands.

    A stopped run continues with finetune --resume NAME, and finetune attach NAME looks at one
    that trains in the background. An adapter that is installed stays
    when its run is removed; adapters remove takes both.
    """
    from dataclasses import asdict

    if remove is not None:
        _remove(remove, yes)
        return
    found = all_runs()
    width = max((len(run.name) for run in found), default=0)
    background = _in_the_background()
    for run in found:
        beside = background.pop(run.path.resolve(), None)
        if as_json:
            row = asdict(run) | {"path": str(run.path)}
            if beside is not None:
                row |= {"background": asdict(beside.state())}
            write_json(row)
        else:
            click.echo(_line(run, width, beside))
    if as_json:
        return
    for gone in background.values():  # nothing is left of them but what went wrong
        click.echo(one_line(f"{gone.name}: {gone.state().sentence}"))
    if not found and not background:
        click.echo("There is no training run.", err=True)


def _in_the_background() -> dict[Path, BackgroundRun]:
    """By their folders: those at work, and those that ended since somebody looked at them."""
    from openchat_local.app.paths import data_home
    from openchat_local.finetune.run.background import background_runs

    return {run.path.resolve(): run for run in background_runs(data_home())}


def all_runs() -> list[KnownRun]:
    """The runs in the data home, and those elsewhere whose adapters are installed."""
    from openchat_local.app.engine import installed_adapters
    from openchat_local.app.paths import data_home
    from openchat_local.finetune.run.known import known_runs, place_of
    from openchat_local.finetune.run.supervisor import runs_folder
    from openchat_local.models.errors import OpenChatError

    library = installed_adapters()
    elsewhere = []
    for name in library.names():
        try:
            place = place_of(library.info(name), data_home())
        except OpenChatError:
            continue  # `adapters list` tells what is wrong with it
        if place is not None:
            elsewhere.append(place)
    elsewhere += _in_the_background()
    return known_runs(runs_folder(data_home()), elsewhere)


def tell_removed(path: Path) -> None:
    """Remove the run in `path`, and say what that frees and what stays. Raises RunError."""
    from openchat_local.finetune.run.known import remove_run

    tell_freed(path, *remove_run(path))


def tell_freed(path: Path, freed: int, left: Sequence[Path]) -> None:
    """Say what removing the run in `path` freed, and what stays there."""
    text = f"The run in {path} removed; {size_in_words(freed)} freed."
    if left:
        names = ", ".join(file.name for file in left[:5]) + (" …" if len(left) > 5 else "")
        text += f" What no run has made stays there: {names}."
    click.echo(one_line(text))


def _remove(name: str, yes: bool) -> None:
    from openchat_local.finetune.run.known import describe

    named = [run for run in all_runs() if run.name == name]
    run = named[0] if len(named) == 1 else describe(Path(name).expanduser().absolute())
    if not yes:
        size = size_in_words(run.bytes)
        insist(f"Delete the run in {run.path} ({size}) for good?", "Nothing was deleted.")
    tell_removed(run.path)


def _line(run: KnownRun, width: int, background: BackgroundRun | None) -> str:
    from openchat_local.app.cli.finetune_attach import in_words

    when = local_time(run.begun) if run.begun else "unknown"
    size = size_in_words(run.bytes)
    line = f"{run.name:<{width}}  {when:<16}  {size:>8}  {run.state:<8}  {run.model}"
    if background is not None:
        line += f"  ({in_words(background.state())})"
    return one_line(line)
