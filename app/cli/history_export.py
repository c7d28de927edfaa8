"""`history export`: a chat to read or to keep, and all chats to train on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from openchat_local.app.cli.chat_selection import (
    given_selection,
    selection_options,
    take_selection,
    tell,
)
from openchat_local.app.cli.completing import complete_chat
from openchat_local.app.cli.open_chats import named_or_latest, reading_store
from openchat_local.app.printable import one_line
from openchat_local.app.wording import counted
from openchat_local.models.errors import OpenChatError

file_type = click.Path(path_type=Path, dir_okay=False)


@click.command(short_help="Write a chat as Markdown or JSON; chats to train on.")
@click.argument("chat", required=False, shell_complete=complete_chat)
@click.option(
    "-f",
    "--format",
    "format_",
    type=click.Choice(["markdown", "json", "jsonl"]),
    default="markdown",
    show_default=True,
    help="json is the whole chat and can be imported again; jsonl is what can be learned from it, "
    "by what you rated, edited and asked for again.",
)
@click.option(
    "-b",
    "--branches",
    type=click.Choice(["shown", "all"]),
    default="shown",
    show_default=True,
    help="For markdown: the branch that is open, or every one.",
)
@click.option("-o", "--output", type=file_type, help="A new file in place of standard output.")
@click.option(
    "--for-training",
    "rows",
    type=file_type,
    metavar="FILE",
    help="Write what can be learned from all chats, or from those below, to this new file.",
)
@click.option(
    "--pairs",
    type=file_type,
    metavar="FILE",
    help="And replies of which one is better, for DPO (prompt, chosen, rejected).",
)
@selection_options("--model")
@click.pass_context
def export(ctx: click.Context, /, chat: str | None, **flags: Any) -> None:
    """Write CHAT (default: the chat used last) as Markdown, JSON or JSONL; or, with
    --for-training, every chat as rows for `openchat-local finetune`.

    Private chats are never trained on.
    """
    if flags["rows"] or flags["pairs"]:
        _export_rows(ctx, chat, flags)
        return
    if given := given_selection(ctx):
        raise click.UsageError(f"{given[0]} is for --for-training FILE or --pairs FILE.")
    _export_chat(chat, **{name: flags[name] for name in _ONE_CHAT})


_ONE_CHAT = ("format_", "branches", "cut_replies", "output")


def _export_chat(
    chat: str | None, format_: Any, branches: Any, cut_replies: bool, output: Path | None
) -> None:
    from openchat_local.app.chats.formats import export_chat, write_new_file

    with reading_store() as store:
        chat_id = named_or_latest(store, chat).id
        if format_ == "jsonl":
            from openchat_local.app.learning.one_chat import training_lines
            from openchat_local.app.learning.rules import rules_of
            from openchat_local.app.settings.model import load_settings

            rules = rules_of(load_settings())
            text, said = training_lines(store, chat_id, rules, cut_replies=cut_replies)
            tell(said)
        else:
            text = export_chat(store, chat_id, format_, branches)
    if output is None:
        write_text(text)
    else:
        write_new_file(output, text)


def _export_rows(ctx: click.Context, chat: str | None, flags: dict[str, Any]) -> None:
    from openchat_local.app.learning.rows_file import refuse_existing, write_lessons, write_pairs
    from openchat_local.app.learning.rules import rules_of
    from openchat_local.app.learning.selecting import (
        gather,
        left_out_in_words,
        remarks,
        shortfall,
    )
    from openchat_local.app.settings.model import load_settings

    for name, flag in (("format_", "--format"), ("branches", "--branches"), ("output", "--output")):
        if ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{flag} is for one chat: leave it out with --for-training.")
    if chat is not None:
        flags["chats"] = (*flags["chats"], chat)
    rows, pairs = flags["rows"], flags["pairs"]
    if rows is not None and rows == pairs:
        raise click.UsageError("--for-training and --pairs name one file: choose two.")
    for path in filter(None, (rows, pairs)):
        refuse_existing(path)  # before half of what was asked for is written
    rules = rules_of(load_settings())
    with reading_store() as store:
        selection = take_selection(flags, store)
        found = gather(store, selection, rules)
    tell(left_out_in_words(found.left_out))
    if rows is not None:
        if not found.lessons:
            raise OpenChatError(shortfall(()) or "")
        write_lessons(rows, found.lessons)
        tell([*remarks(found.lessons), *filter(None, [shortfall(found.lessons)])])
        replies = sum(len(lesson.learned) for lesson in found.lessons)
        click.echo(
            one_line(
                f"{counted(len(found.lessons), 'row')} with {replies:,} "
                f"{'reply' if replies == 1 else 'replies'} to learn are in {rows}."
            )
        )
    if pairs is not None:
        if not found.pairs:
            raise OpenChatError(
                "There is no prompt with two replies of which one is better: ask again (r) or edit "
                "one, and rate them."
            )
        write_pairs(pairs, found.pairs)
        click.echo(one_line(f"{counted(len(found.pairs), 'pair')} of replies in {pairs}."))


def write_text(text: str) -> None:
    """A terminal gets control characters as symbols; a pipe or file gets the text as it is."""
    from openchat_local.app.printable import printable

    # Not click.echo, which would cut escape sequences out of the text in a pipe.
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
