"""`adapters`: what fine-tuning left on this machine, listed, shown, moved, merged, removed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openchat_local.app.cli.options import insist
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openchat_local.models.adapter_file import AdapterFile
    from openchat_local.models.adapters import InstalledAdapter

json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON, one value a line.")
model_option = click.option(
    "-m", "--model", metavar="NAME|FILE", help="The model that the adapter was trained on."
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


@adapters.command("list")
@json_option
def list_adapters(as_json: bool) -> None:
    """List the installed adapters."""
    from openchat_local.app.adapter_choice import installed_adapters

    library = installed_adapters()
    names = library.names()
    width = max(map(len, names), default=0)
    for name in names:
        try:
            info = library.info(name)
        except OpenChatError as problem:  # the others are to be seen all the same
            click.echo(_one_line(f"{name:<{width}}  {problem}"), err=as_json)
        else:
            _write_json(_facts(info)) if as_json else click.echo(_line(info, width))


@adapters.command()
@click.argument("name")
@json_option
def info(name: str, as_json: bool) -> None:
    """Show what NAME was trained on and how it is to be used."""
    from openchat_local.app.adapter_choice import installed_adapters

    facts = _facts(installed_adapters().info(name))
    if as_json:
        _write_json(facts)
    else:
        for line in _lines(facts):
            click.echo(_one_line(line))


@adapters.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="What to call it.")
@click.option("--replace", is_flag=True, help="In place of the one that has this name.")
def add(file: Path, name: str, replace: bool) -> None:
    """Install the adapter FILE (GGUF), or that of a training run's folder."""
    from openchat_local.app.adapter_choice import installed_adapters
    from openchat_local.app.paths import ensure_home

    ensure_home()
    library = installed_adapters()
    peft = file / "adapter" if (file / "adapter").is_dir() else None
    library.add(name, library.resolve(str(file)), peft=peft, replace=replace)


@adapters.command()
@click.argument("name")
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
@model_option
def export(name: str, out: Path, format_: str, model: str | None) -> None:
    """Write the adapter NAME to OUT, which is not there yet."""
    import shutil

    from openchat_local.app.adapter_choice import installed_adapters
    from openchat_local.models.atomic import replacing, replacing_folder

    adapter = installed_adapters().info(name)
    if out.exists():
        raise OpenChatError(f"{out} is there already: choose another name.")
    try:
        if format_ == "gguf":
            with replacing(out, new=True) as part:
                shutil.copyfile(adapter.path, part)
        elif adapter.peft is not None:
            with replacing_folder(out, new=True) as part:
                shutil.copytree(adapter.peft, part, dirs_exist_ok=True)
        else:
            _convert_to_peft(adapter, out, _base(model))
    except OSError as error:
        raise _cannot_write(out, error) from error


@adapters.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def remove(names: tuple[str, ...], yes: bool) -> None:
    """Delete the adapters NAME for good."""
    from openchat_local.app.adapter_choice import installed_adapters

    library = installed_adapters()
    for name in names:
        library.existing(name)
    if not yes:
        insist(f"Delete {', '.join(names)} for good?", "Nothing was deleted.")
    for name in dict.fromkeys(names):
        library.remove(name)


@adapters.command()
@click.argument("name")
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
def merge(name: str, out: Path, type_name: str, model: str | None) -> None:
    """Write the model with the adapter NAME built in to OUT, for use elsewhere."""
    from openchat_local.app.adapter_choice import adapter_path
    from openchat_local.finetune.adapter import merge as merge_adapter

    path = adapter_path(name)
    if path is None:
        raise OpenChatError("Without an adapter there is nothing to merge: name one.")
    shown = 0
    hidden = not sys.stderr.isatty()
    with click.progressbar(length=1000, label="merging", hidden=hidden, file=sys.stderr) as bar:

        def show(fraction: float) -> None:
            nonlocal shown
            steps = int(fraction * 1000) - shown
            if steps > 0:
                shown += steps
                bar.update(steps)

        try:
            merge_adapter(path, _base(model), out.absolute(), type_name.lower(), show)
        except OSError as error:
            raise _cannot_write(out, error) from error


def _base(model: str | None) -> Path:
    from openchat_local.app.model_choice import model_path
    from openchat_local.app.settings import load_settings

    return model_path(load_settings({"model": model}).model)


def _convert_to_peft(adapter: InstalledAdapter, out: Path, base_path: Path) -> None:
    from openchat_local.finetune.adapter import read_gguf_adapter, write_peft
    from openchat_local.models.adapter_file import check_fits
    from openchat_local.models.gguf import read_gguf

    base = read_gguf(base_path)
    check_fits(adapter.file, base)
    weights, config, card = read_gguf_adapter(adapter.path)
    write_peft(out, weights, config, base, card)


def _facts(adapter: InstalledAdapter) -> dict[str, Any]:
    from dataclasses import asdict

    file: AdapterFile = adapter.file
    return {
        "name": adapter.name,
        "base": file.card.base_name,
        "base_fingerprint": file.card.base_fingerprint,
        "template": file.card.template,
        "condition": file.card.condition,
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
    return _one_line(
        f"{adapter.name:<{width}}  {size / 1e6:8.1f} MB  rank {max(adapter.file.ranks)}  "
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


def _cannot_write(out: Path, error: OSError) -> OpenChatError:
    return OpenChatError(
        f"{out} cannot be written ({error.strerror or error}): choose another place."
    )


def _one_line(text: str) -> str:
    from openchat_local.app.printable import printable

    return printable(text).replace("\n", " ").replace("\t", " ")


def _write_json(value: dict[str, Any]) -> None:
    import json

    sys.stdout.write(json.dumps(value, ensure_ascii=sys.stdout.isatty()) + "\n")
