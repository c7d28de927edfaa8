"""`models`: what is on this machine and what could be, fetched, checked, removed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from openchat_local.app.cli.completing import complete_model
from openchat_local.app.cli.models_pull import pull
from openchat_local.app.cli.options import insist
from openchat_local.app.printable import one_line
from openchat_local.app.wording import write_json
from openchat_local.models.errors import OpenChatError
from openchat_local.models.units import size_in_words

if TYPE_CHECKING:
    from openchat_local.models.library import InstalledModel

json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON, one value a line.")


@click.group()
def models() -> None:
    """List, fetch, verify and remove models.

    \b
      openchat-local models pull openchat-3.5            the quantisation that suits this machine
      openchat-local models pull openchat-3.5:Q5_K_M     one of your choice
      openchat-local models pull hf:OWNER/REPOSITORY     any GGUF model of the Hugging Face hub
      openchat-local chat -m openchat-3.5

    Only `pull` uses the network.
    """


models.add_command(pull)


@models.command("list")
@click.option("--found", is_flag=True, help="Files of Hugging Face, LM Studio and Ollama instead.")
@json_option
def list_models(found: bool, as_json: bool) -> None:
    """List what is installed and what can be fetched, with size and fit.

    "fits", "tight" or "does not fit" is said of this machine's free memory now. A size with
    a ~ is an estimate.
    """
    from openchat_local.app.engine import installed_models
    from openchat_local.app.model_rows import facts, lines, model_rows

    if found:
        _list_found(as_json)
        return
    rows, faults = model_rows(installed_models())
    for fault in faults:
        click.echo(one_line(str(fault)), err=True)
    if as_json:
        for row in rows:
            write_json(facts(row))
    else:
        for line in lines(rows):
            click.echo(one_line(line))


@models.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--name", metavar="NAME", help="What to call it; made from the file's name if not.")
@click.option("--link", is_flag=True, help="Use the file where it is instead of copying it.")
def add(file: Path | None, name: str | None, link: bool) -> None:
    """Install the GGUF model FILE. Without FILE, show those that other programs have."""
    from openchat_local.app.cli.progress import Bar
    from openchat_local.app.engine import installed_models
    from openchat_local.app.paths import ensure_home
    from openchat_local.models.gguf import read_gguf

    if file is None:
        _list_found(False)
        return
    file = file.expanduser()
    size = read_gguf(file).file_size
    ensure_home()
    with Bar("reading" if link else "copying", size) as bar:
        model = installed_models().add(file, name, link=link, on_progress=bar.show)
    click.echo(
        f"{model.card.reference} is installed{f', linked to {file}' if link else ''}: "
        f"openchat-local chat -m {model.card.reference}"
    )


@models.command()
@click.argument("name", metavar="NAME|FILE", shell_complete=complete_model)
@json_option
def info(name: str, as_json: bool) -> None:
    """Show what a model is: shape, quantisation, template, special tokens, licence, hash."""
    from openchat_local.app.engine import installed_models, model_path
    from openchat_local.app.model_facts import fact_lines, model_facts

    facts = model_facts(model_path(name), installed_models().find(name))
    if as_json:
        write_json(facts)
    else:
        for line in fact_lines(facts):
            click.echo(one_line(line))


@models.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_model)
def verify(names: tuple[str, ...]) -> None:
    """Read the models NAME, or all, and compare their SHA-256 with what was installed."""
    from openchat_local.app.engine import installed_models

    library = installed_models()
    chosen = [library.existing(name) for name in dict.fromkeys(names) if name != "starter"]
    if not names:
        chosen, faults = library.scan()
        for fault in faults:
            click.echo(one_line(str(fault)), err=True)
        broken = len(faults)
    else:
        broken = 0
    broken += sum(not _verified(model) for model in chosen)
    if not names or "starter" in names:
        broken += not _starter_verified(asked="starter" in names)
    if broken:
        raise OpenChatError(f"{broken} of the models cannot be trusted: do as it says above.")


def _verified(model: InstalledModel) -> bool:
    from openchat_local.app.cli.progress import Bar
    from openchat_local.app.engine import installed_models

    try:
        with Bar(f"verifying {model.card.reference}", model.card.bytes) as bar:
            installed_models().verify(model, bar.show)
    except OpenChatError as problem:
        click.echo(one_line(str(problem)), err=True)
        return False
    hashes = " ".join(part.sha256 for part in model.card.files)
    click.echo(f"{model.card.reference}  whole  sha256 {hashes}")
    return True


def _starter_verified(*, asked: bool) -> bool:
    from openchat_local.models.library import installed_path
    from openchat_local.models.library.catalog import catalog
    from openchat_local.models.library.packaged import verify_packaged

    known = catalog()["starter"]
    if installed_path(known) is None and not asked:
        return True
    try:
        digest = verify_packaged(known)
    except OpenChatError as problem:
        click.echo(one_line(str(problem)), err=True)
        return False
    click.echo(f"starter  whole  sha256 {digest}")
    return True


@models.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_model)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Also while an adapter or a running chat needs it.")
def remove(names: tuple[str, ...], yes: bool, force: bool) -> None:
    """Delete the models NAME, or what came of an unfinished one, and say what that frees."""
    from openchat_local.app.engine import adapters_of, installed_models
    from openchat_local.models.library.unfinished import unfinished

    library = installed_models()
    begun = {one.reference.lower(): one for one in unfinished(library.folder)}
    parts = [begun[name.lower()] for name in names if name.lower() in begun]
    others = [name for name in names if name.lower() not in begun or library.find(name)]
    chosen = {model.folder: model for model in map(library.existing, others)}.values()
    for model in chosen:
        needing = [] if force else adapters_of(model)
        if needing:
            raise OpenChatError(
                f"The model {model.card.reference} is needed by the adapter "
                f"{', '.join(needing)}: remove that first (openchat-local adapters remove), or "
                "use --force."
            )
    if not yes:
        what = [*(m.card.reference for m in chosen), *(f"the part of {p.reference}" for p in parts)]
        insist(f"Delete {', '.join(what)} for good?", "Nothing was deleted.")
    for part in parts:
        part.forget()
        click.echo(f"The part of {part.reference} removed; {size_in_words(part.done)} freed.")
    for model in chosen:
        freed = library.remove(model, force=force)
        what_for = (
            f"{size_in_words(freed)} freed"
            if freed
            else f"nothing freed: it was a link, and {model.card.source} stays"
        )
        click.echo(f"{model.card.reference} removed; {what_for}.")


@models.command()
@click.argument("name", required=False, shell_complete=complete_model)
def path(name: str | None) -> None:
    """Print where the model NAME is; without NAME, the folder of all models."""
    from openchat_local.app.engine import model_path
    from openchat_local.app.paths import models_dir

    click.echo(models_dir() if name is None else model_path(name))


def _list_found(as_json: bool) -> None:
    from openchat_local.app.engine import installed_models
    from openchat_local.models.library.found import find_elsewhere

    found = find_elsewhere()
    linked = {model.path.resolve() for model in installed_models().models()}
    for model in found:
        if as_json:
            write_json(
                {
                    "program": model.program,
                    "name": model.name,
                    "bytes": model.bytes,
                    "path": str(model.path),
                    "linked": model.path.resolve() in linked,
                }
            )
            continue
        click.echo(one_line(f"{model.name}  {size_in_words(model.bytes)}  {model.program}"))
        if model.path.resolve() in linked:
            click.echo("    is linked already")
        else:
            click.echo(
                one_line(
                    f"    openchat-local models add --link --name {model.name} {quoted(model.path)}"
                )
            )
    if not found and not as_json:
        click.echo("No GGUF model of Hugging Face, LM Studio or Ollama was found.", err=True)


def quoted(path: Path) -> str:
    """`path` as a shell takes it."""
    import shlex

    return shlex.quote(str(path)) if sys.platform != "win32" else f'"{path}"'
