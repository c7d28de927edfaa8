"""`adapters`: what fine-tuning left on this machine, listed, shown, moved, merged, removed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openchat_local.app.cli.adapters_peft import cannot_write, convert_to_peft, import_peft
from openchat_local.app.cli.adapters_versions import (
    judge,
    rollback,
    scale,
    standings,
    use,
    version_facts,
    version_in_brief,
    version_lines,
)
from openchat_local.app.cli.completing import complete_adapter, complete_model
from openchat_local.app.cli.options import insist
from openchat_local.app.printable import one_line
from openchat_local.app.wording import write_json
from openchat_local.models.errors import OpenChatError
from openchat_local.models.units import size_in_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openchat_local.app.learning.versions import Votes
    from openchat_local.models.library.adapter_file import AdapterFile
    from openchat_local.models.library.adapters import InstalledAdapter

json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON, one value a line.")
model_option = click.option(
    "-m",
    "--model",
    metavar="NAME|FILE",
    help="The model that the adapter was trained on.",
    shell_complete=complete_model,
)
# The types of finetune.adapter.MERGE_TYPES, which --help is not to import; a test compares.
MERGE_TYPES = (
    *("f32", "f16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1"),
    *("q2_k", "q3_k_m", "q4_k_m", "q5_k_m", "q6_k"),
)


@click.group()
def adapters() -> None:
    """List, export, merge and remove adapters.

    Use one with `ask --adapter NAME`, `chat --adapter NAME`, or /adapter NAME in the window.
    """


force_option = click.option(
    "--force", is_flag=True, help="Also where it was trained on another model."
)


@adapters.command("list")
@json_option
def list_adapters(as_json: bool) -> None:
    """List the installed adapters: what each began from, how it scored, which one answers."""
    from openchat_local.app.engine import installed_adapters
    from openchat_local.app.learning.versions import versions

    library, found = installed_adapters(), versions(_votes())
    width = max((len(one.name) for one in found), default=0)
    for one in found:
        if one.problem is not None:  # the others are to be seen all the same
            click.echo(one_line(f"{one.name:<{width}}  {one.problem}"), err=as_json)
            continue
        info = library.info(one.name)
        if as_json:
            write_json(_facts(info) | version_facts(one))
        else:
            click.echo(one_line(_line(info, width) + version_in_brief(one)))


@adapters.command()
@click.argument("name", shell_complete=complete_adapter)
@json_option
def info(name: str, as_json: bool) -> None:
    """Show what NAME was trained on and how it is to be used."""
    from openchat_local.app.engine import installed_adapters
    from openchat_local.app.learning.versions import version

    facts, one = (
        _facts(installed_adapters().info(name)),
        version(name, _votes()),
    )
    if as_json:
        write_json(facts | version_facts(one))
    else:
        for line in (*_lines(facts), *version_lines(one)):
            click.echo(one_line(line))


@adapters.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="What to call it.")
@click.option("--replace", is_flag=True, help="In place of the one that has this name.")
@model_option
@force_option
def add(file: Path, name: str, replace: bool, model: str | None, force: bool) -> None:
    """Install the adapter FILE (GGUF), that of a training run's folder, or a folder of PEFT's.

    A PEFT adapter does not say which file its base model is in: name that with --model.
    """
    from openchat_local.app.engine import installed_adapters
    from openchat_local.app.paths import ensure_home

    ensure_home()
    library = installed_adapters()
    if (file / "adapter_config.json").is_file() and not (file / "adapter.gguf").is_file():
        import_peft(file, name, _base(model), replace=replace, force=force)
        return
    peft = file / "adapter" if (file / "adapter").is_dir() else None
    library.add(name, library.resolve(str(file)), peft=peft, replace=replace)


@adapters.command()
@click.argument("name", shell_complete=complete_adapter)
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "-f",
    "--format",
    "format_",
    type=click.Choice(["gguf", "peft"]),
    default="gguf",
    show_default=True,
    help="gguf is one file for llama.cpp; peft is a folder for Hugging Face's peft.",
)
@click.option("--vllm", is_flag=True, help="A folder for vLLM: peft, chat template, command.")
@model_option
@force_option
def export(name: str, out: Path, format_: str, vllm: bool, model: str | None, force: bool) -> None:
    """Write the adapter NAME to OUT, which is not there yet."""
    import shutil

    from openchat_local.app.cli.adapters_vllm import export_to_vllm
    from openchat_local.app.engine import installed_adapters
    from openchat_local.models.system.atomic import replacing, replacing_folder

    adapter = installed_adapters().info(name)
    if out.exists():
        raise OpenChatError(f"{out} is there already: choose another name.")
    try:
        if vllm:
            for line in export_to_vllm(adapter, out, _base(model), force=force):
                click.echo(one_line(line))
        elif format_ == "gguf":
            with replacing(out, new=True) as part:
                shutil.copyfile(adapter.path, part)
        elif adapter.peft is not None:
            with replacing_folder(out, new=True) as part:
                shutil.copytree(adapter.peft, part, dirs_exist_ok=True)
        else:
            convert_to_peft(adapter, out, _base(model), force=force)
    except OSError as error:
        raise cannot_write(out, error) from error


@adapters.command()
@click.argument(
    "names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_adapter
)
@click.option(
    "--with-data/--keep-run",
    default=True,
    help="Also the training run, which holds what was trained on (the default), or not.",
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def remove(names: tuple[str, ...], with_data: bool, yes: bool) -> None:
    """Delete the adapters NAME for good, each with the training run that it came from.

    A run holds the conversations that were trained on, as tokens, and, where these were your
    chats, as text. One that answers in new chats is deleted only where you say so when you are
    asked.
    """
    from openchat_local.app.cli.finetune_runs import tell_freed
    from openchat_local.app.learning.versions import StillInUse, carry_out, to_delete
    from openchat_local.finetune.run.known import check_idle

    chosen = [to_delete(name, with_data=with_data) for name in dict.fromkeys(names)]
    for one in chosen:  # while one is being trained, nothing at all is removed
        if one.run is not None:
            check_idle(one.run)
        if one.in_use and yes:
            raise StillInUse(
                f"{one.name} answers in new chats: openchat-local adapters use none first."
            )
    if not yes:
        insist(" ".join(one.question for one in chosen), "Nothing was deleted.")
    for one in chosen:
        done = carry_out(one, even_in_use=True)
        if one.run is not None:
            tell_freed(one.run, done.freed, done.left)


@adapters.command()
@click.argument("name", shell_complete=complete_adapter)
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "-t",
    "--type",
    "type_name",
    type=click.Choice(MERGE_TYPES, case_sensitive=False),
    default="f16",
    show_default=True,
    help="Of the matrices. The last nine are made from F16, which is on the disk meanwhile.",
)
@model_option
@force_option
def merge(name: str, out: Path, type_name: str, model: str | None, force: bool) -> None:
    """Write the model with the adapter NAME built in to OUT, for use elsewhere."""
    from openchat_local.app.cli.progress import Bar
    from openchat_local.app.engine import adapter_path
    from openchat_local.finetune.adapter import merge as merge_adapter

    path = adapter_path(name)
    if path is None:
        raise OpenChatError("Without an adapter there is nothing to merge: name one.")
    base, type_name = _base(model), type_name.lower()
    with Bar("merging", 1.0) as bar:
        try:
            merge_adapter(path, base, out.absolute(), type_name, bar.show, force=force)
        except OSError as error:
            raise cannot_write(out, error) from error


def _base(model: str | None) -> Path:
    from openchat_local.app.engine import model_path
    from openchat_local.app.settings.model import load_settings

    return model_path(load_settings({"model": model}).model)


def _votes() -> dict[str, Votes]:
    """The votes of each; where the chats cannot be opened, that is said, and there are none."""
    from openchat_local.app.learning.arena import all_votes, votes_by_adapter

    try:
        return votes_by_adapter(all_votes())
    except OpenChatError as problem:
        click.echo(one_line(f"No votes are shown: {problem}"), err=True)
        return {}


def _facts(adapter: InstalledAdapter) -> dict[str, Any]:
    from dataclasses import asdict

    file: AdapterFile = adapter.file
    return {
        "name": adapter.name,
        "base": file.card.base_name,
        "base_fingerprint": file.card.base_fingerprint,
        "template": file.card.template,
        "condition": file.card.condition,
        "system_prompt": file.card.system_prompt,
        "classes": [asdict(trained) for trained in file.card.classes],
        "rank": max(file.ranks),
        "alpha": file.alpha,
        "tensors": len(file.pairs),
        "bytes": file.file.file_size,
        "data_hash": file.card.data_hash,
        "path": str(adapter.path),
        "peft": None if adapter.peft is None else str(adapter.peft),
        "facts": dict(adapter.facts),
    }


def _line(adapter: InstalledAdapter, width: int) -> str:
    card, size = adapter.file.card, adapter.file.file.file_size
    condition = "unknown" if card.condition is None else card.condition or "none"
    return one_line(
        f"{adapter.name:<{width}}  {size_in_words(size):>11}  rank {max(adapter.file.ranks)}  "
        f"of {card.base_name or 'an unknown model'}, condition {condition}"
    )


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    for key, value in facts.items():
        if key == "classes":
            for trained in value:
                condition = repr(trained["condition"]) if trained["condition"] else "none"
                yield f"class {trained['name']}: condition {condition}, reward {trained['reward']}"
        elif key == "facts":
            plain = {k: v for k, v in value.items() if not isinstance(v, dict | list)}
            yield from (f"{name}: {fact}" for name, fact in plain.items())  # the rest: --json
        elif value is not None:
            yield f"{key.replace('_', ' ')}: {value if value != '' else 'none'}"


for command in (use, rollback, judge, scale, standings):
    adapters.add_command(command)
