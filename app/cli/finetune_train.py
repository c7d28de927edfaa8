"""`finetune FILE`: train an adapter, look on, and have it for chat when it is done."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openchat_local.app.cli.chat_selection import THINKING, given_selection, selection_options
from openchat_local.app.cli.completing import complete_model
from openchat_local.app.cli.finetune_chats import gather_rows
from openchat_local.app.cli.finetune_options import (
    backend_options,
    check_vocabulary,
    data_options,
    optimizer_options,
)
from openchat_local.app.cli.finetune_settings import flags_to_chat, settings_of
from openchat_local.app.cli.options import template_options
from openchat_local.app.printable import one_line
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.cli.finetune_chats import ChatRows
    from openchat_local.finetune.run.directory import RunDirectory
    from openchat_local.finetune.run.settings import RunSettings

_COUNT = click.IntRange(min=1)


@click.command(short_help="Train an adapter on FILE (what `finetune FILE` does).")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@click.option("--name", metavar="NAME", help="What chat will call the adapter; FILE's name.")
@click.option(
    "-m", "--model", metavar="NAME|FILE", help="The base model.", shell_complete=complete_model
)
@template_options
@click.option("--epochs", type=click.FloatRange(0, min_open=True), help="How often; 3.")
@click.option("--steps", type=_COUNT, help="At most so many optimizer steps.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="About so long.")
@click.option("--rank", type=_COUNT, help="Of the adapter; 8.")
@click.option("--alpha", type=click.FloatRange(0, min_open=True), help="Its scale times rank; 2r.")
@click.option("--rslora", is_flag=True, help="Scale by alpha / √rank.")
@click.option(
    "--dropout",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Share of the adapter's inputs left out at random, against learning by heart.",
)
@click.option("--layers", type=_COUNT, metavar="N", help="The last N blocks only.")
@click.option("--targets", metavar="a,b,…", help="Layers to adapt, such as attn_q,attn_v.")
@optimizer_options
@click.option("--max-length", type=_COUNT, metavar="TOKENS", help="Cut longer conversations.")
@click.option("--tokens-per-step", type=_COUNT, metavar="TOKENS", help="Per optimizer step.")
@click.option(
    "--checkpointing/--no-checkpointing",
    default=None,
    help="Compute blocks twice to save memory; when it is needed.",
)
@click.option("--patience", type=_COUNT, help="Stop after so many validations without gain.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Of all that is drawn at random: the same, and the run is the same.",
)
@click.option(
    "--packing/--no-packing",
    default=None,
    help="Several conversations a row, or one; what is faster on this device.",
)
@backend_options
@click.option(
    "--quantised/--dense",
    default=None,
    help="Keep the base in its quantised blocks, or not; what fits and is faster.",
)
@click.option(
    "--nf4", is_flag=True, help="Hold it in bitsandbytes' 4 bits: PyTorch, CUDA above all."
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A Hugging Face folder of the same model, to train on its weights.",
)
@click.option(
    "--start-from",
    metavar="NAME|FILE",
    help="Begin with this adapter's weights instead of the model as it is.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The run's folder.")
@click.option(
    "--from-chats",
    is_flag=True,
    help="Learn from your own chats: what you rated, edited and asked for again. FILEs are mixed "
    "in.",
)
@selection_options("--replies-by")
@click.option("--resume", metavar="NAME|DIR", help="Go on with a run that was stopped or killed.")
@click.option("--replace", is_flag=True, help="Replace an adapter or run of the same name.")
@click.option(
    "--background",
    is_flag=True,
    help="Train by itself: this terminal may be closed; finetune attach looks at it.",
)
@click.option("--dry-run", is_flag=True, help="Show the data and the plan; train nothing.")
@data_options
@click.pass_context
def train(
    ctx: click.Context,
    /,
    files: tuple[Path, ...],
    from_chats: bool,
    resume: str | None,
    **flags: Any,
) -> None:
    """Train an adapter on the conversations of FILE by C-RLFT, on this machine.

    \b
      openchat-local finetune mydata.jsonl --name mine
      openchat-local finetune --from-chats --since 30 --name mine
      openchat-local chat --adapter mine
    """
    from openchat_local.app.engine import installed_adapters
    from openchat_local.finetune.backends.choose import find_backend, is_first_process
    from openchat_local.finetune.backends.group import launched
    from openchat_local.finetune.data.lines import refuse_unreadable
    from openchat_local.finetune.run.directory import RunDirectory
    from openchat_local.models.gguf import read_gguf

    _refuse_contradictions(ctx, files, resume, from_chats=from_chats)
    if flags["background"] and flags["dry_run"]:
        raise click.UsageError("--dry-run trains nothing, in the background either.")
    find_backend(flags["backend"], flags["device"])
    if from_chats and launched()[1] > 1:
        raise OpenChatError(
            "--from-chats is for one process: write the rows with `openchat-local history export "
            "--for-training FILE`, and train on that FILE."
        )
    if not is_first_process():
        settings = settings_of(files[0], flags) if files else _stored_settings(ctx, resume)
        _help_along(settings, dry=flags["dry_run"])
        return
    if resume is not None:
        _go_on(ctx, RunDirectory.open(_run_folder(resume)), flags)
        return
    rows = gather_rows(files, flags) if from_chats else None
    settings = settings_of(files[0] if rows is None else None, flags)
    taken = settings.name in installed_adapters().names()
    if taken and not (flags["replace"] or flags["dry_run"]):
        raise OpenChatError(
            f"There is an adapter named {settings.name} already: choose another --name, or "
            "add --replace."
        )
    # What another process would find out only after it has loaded its libraries.
    if rows is None:
        refuse_unreadable(settings.data)
    read_gguf(settings.base)
    check_vocabulary(settings.base)  # training's child has no sentence for its death here
    fields = {
        "name": settings.name,
        "settings": settings.as_json(),
        "begun": time.time(),
        "replace": flags["replace"],
        "chat_flags": flags_to_chat(settings, flags),
    }
    if flags["dry_run"]:
        _plan_only(fields, rows)
        return
    _begin(fields, rows, settings, flags)


def _begin(
    fields: dict[str, Any], rows: ChatRows | None, settings: RunSettings, flags: dict[str, Any]
) -> None:
    """Make the run's folder, and train in it, here or in the background."""
    from openchat_local.app.cli.finetune_attach import tell_begun
    from openchat_local.app.cli.finetune_session import watch
    from openchat_local.app.paths import ensure_home
    from openchat_local.finetune.run.background import begin_in_background, refuse_second
    from openchat_local.finetune.run.beginning import begin_run
    from openchat_local.finetune.run.supervisor import runs_folder

    home = ensure_home()
    if flags["background"]:
        refuse_second(home)
    folder = flags["out"] or runs_folder(home) / settings.name
    new = begin_run(folder.expanduser(), fields, replace=flags["replace"])
    if rows is not None:
        try:
            rows.write_into(new.run.path)
        except BaseException:
            new.discard()
            raise
        click.echo(one_line(f"The rows are in {settings.data}, and go with the run."), err=True)
    if flags["background"]:
        tell_begun(begin_in_background(new, home=home))
    else:
        watch(new.run, new=new)


def _refuse_contradictions(
    ctx: click.Context, files: tuple[Path, ...], resume: str | None, *, from_chats: bool
) -> None:
    """Raise UsageError for flags that exclude each other."""
    flags = ctx.params
    if bool(files or from_chats) == (resume is not None):
        raise click.UsageError("Name a FILE to train on, --from-chats, or a run to --resume.")
    if len(files) > 1 and not from_chats:
        raise click.UsageError("Name one FILE; several are mixed in with --from-chats.")
    given = [flag for flag in given_selection(ctx) if flag != THINKING]  # of files as well
    if not from_chats and given:
        raise click.UsageError(f"{given[0]} says which chats, and is for --from-chats.")
    if flags["weights"] is not None and flags["quantised"]:
        raise click.UsageError("The weights in --weights are not quantised: leave one out.")
    if flags["nf4"] and flags["quantised"] is not None:
        raise click.UsageError("--nf4, --quantised and --dense exclude each other: choose one.")


def _go_on(ctx: click.Context, run: RunDirectory, flags: dict[str, Any]) -> None:
    """Train a run further that was stopped, killed or is finished."""
    from openchat_local.app.cli.finetune_attach import tell_begun
    from openchat_local.app.cli.finetune_resume import changed_settings
    from openchat_local.app.cli.finetune_session import watch
    from openchat_local.app.paths import data_home, ensure_home
    from openchat_local.finetune.run.background import (
        refuse_second,
        resume_in_background,
        take_over,
    )

    settings, said = changed_settings(ctx, run)
    for sentence in said:
        click.echo(sentence, err=True)
    if flags["dry_run"]:
        _plan_only(settings)
        return
    if flags["background"]:
        home = ensure_home()
        refuse_second(home)
        run.write_settings(settings | ({"replace": True} if flags["replace"] else {}))
        tell_begun(resume_in_background(run.path, home=home))
        return
    take_over(run.path, data_home())
    if said:
        run.write_settings(settings)
    watch(run, replace=flags["replace"])


def _plan_only(fields: dict[str, Any], rows: ChatRows | None = None) -> None:
    """Show what would be trained; nothing is written but to a folder that goes again."""
    import tempfile

    from openchat_local.app.cli.finetune_session import watch
    from openchat_local.app.learning.rows_file import ROWS_IN_RUN
    from openchat_local.finetune.run.directory import RunDirectory

    with tempfile.TemporaryDirectory(prefix="openchat-local-plan-") as folder:
        path = Path(folder) / "run"
        if rows is not None:
            data = str(path / ROWS_IN_RUN)
            fields = fields | {"settings": fields["settings"] | {"data": data}}
        run = RunDirectory.create(path, fields)
        if rows is not None:
            rows.write_into(path)
        watch(run, dry=True)


def _help_along(settings: RunSettings, *, dry: bool) -> None:
    """Train as one of several processes that is not the first: write and say nothing."""
    import tempfile

    from openchat_local.finetune.run.directory import RunDirectory
    from openchat_local.finetune.run.supervisor import Training

    with tempfile.TemporaryDirectory(prefix="openchat-local-rank-") as folder:
        fields = {"name": settings.name, "settings": settings.as_json(), "begun": time.time()}
        run = RunDirectory.create(Path(folder) / "run", fields)
        for _ in Training(run, dry=dry).events():
            pass


def _stored_settings(ctx: click.Context, resume: str | None) -> RunSettings:
    """Those of the run to resume, which every machine of a run has to have."""
    from openchat_local.app.cli.finetune_resume import changed_settings
    from openchat_local.finetune.run.directory import RunDirectory
    from openchat_local.finetune.run.settings import RunSettings

    assert resume is not None
    fields, _ = changed_settings(ctx, RunDirectory.open(_run_folder(resume)))
    return RunSettings.from_json(fields["settings"])


def _run_folder(name: str) -> Path:
    from openchat_local.app.paths import data_home
    from openchat_local.finetune.run.supervisor import runs_folder

    named = runs_folder(data_home()) / name
    if len(Path(name).parts) == 1 and named.is_dir():
        return named
    return Path(name).expanduser().absolute()
