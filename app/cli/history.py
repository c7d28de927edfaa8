"""`history`: the chats on this machine, listed, searched, shown, moved and deleted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from openchat_local.app.cli.completing import complete_chat
from openchat_local.app.cli.history_export import export, write_text
from openchat_local.app.cli.open_chats import named_or_latest, reading_store, writing_store
from openchat_local.app.cli.options import insist
from openchat_local.app.printable import one_line
from openchat_local.app.wording import counted, local_time, write_json

if TYPE_CHECKING:
    from openchat_local.app.chats import Chat, SearchHit

json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON, one value a line.")
limit_option = click.option(
    "-n",
    "--limit",
    default=20,
    show_default=True,
    metavar="N",
    type=click.IntRange(1),
    help="At most so many.",
)
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
file_type = click.Path(path_type=Path, dir_okay=False)


@click.group()
def history() -> None:
    """List, search, export and import chats.

    CHAT is the id of a chat, or 4 or more characters of its beginning or end.
    """


history.add_command(export)


@history.command("list")
@limit_option
@click.option("--all", "everything", is_flag=True, help="All chats, however many.")
@json_option
def list_chats(limit: int, everything: bool, as_json: bool) -> None:
    """List chats: pinned ones first, then those used last."""
    from dataclasses import asdict

    with reading_store() as store:
        for chat in store.chats(limit=None if everything else limit):
            write_json(asdict(chat)) if as_json else click.echo(_chat_line(chat))


@history.command()
@click.argument("query", nargs=-1, required=True)
@limit_option
@click.option("--no-private", is_flag=True, help="Leave private chats out.")
@json_option
def search(query: tuple[str, ...], limit: int, no_private: bool, as_json: bool) -> None:
    """Find chats and messages that have every word of QUERY; "#tag" finds chats by tag."""
    from dataclasses import asdict

    with reading_store() as store:
        for hit in store.search(" ".join(query), limit=limit, include_private=not no_private):
            write_json(asdict(hit)) if as_json else click.echo(_hit_lines(hit))


@history.command(short_help="Show a chat: its open branch.")
@click.argument("chat", required=False, shell_complete=complete_chat)
@json_option
def show(chat: str | None, as_json: bool) -> None:
    """Show the branch of CHAT that is open (default: the chat used last)."""
    from dataclasses import asdict

    from openchat_local.app.chats.formats import export_chat

    with reading_store() as store:
        chat_id = named_or_latest(store, chat).id
        if as_json:
            for message in store.branch(chat_id):
                write_json(asdict(message))
        else:
            text = export_chat(store, chat_id, "markdown", thoughts=False)
            title, date, rest = text.split("\n\n", 2)
            write_text("\n\n".join((title, date, _held_line(store.chat(chat_id)), rest)))


@history.command("import", short_help="Add chats: ours, ChatGPT's, Claude's, and more.")
@click.argument("files", nargs=-1, required=True, type=file_type, metavar="FILE...")
@click.option("--skip-bad", is_flag=True, help="Import the rest of a file with faulty chats.")
def import_chats(files: tuple[Path, ...], skip_bad: bool) -> None:
    """Add the chats of FILEs: our JSON; the exports of ChatGPT and Claude (also the .zip as it
    was downloaded), LM Studio and Open WebUI (chats, or feedback with its chats); OpenAI's
    messages (JSON, JSONL); ShareGPT's JSON.

    A file with a faulty chat is not imported, and every fault is named; with --skip-bad the
    rest of it is. What cannot be kept (images, the thoughts of a model) is said.
    """
    from openchat_local.app.chats.formats import import_file

    with writing_store() as store:
        for file in files:
            imported = import_file(store, file, skip_bad=skip_bad)
            for chat in imported.chats:
                click.echo(_chat_line(chat))
            for fault in imported.skipped:
                click.echo(one_line(f"Skipped: {fault}."), err=True)
            for note in imported.notes:
                click.echo(one_line(note), err=True)


@history.command(short_help="Delete chats for good.")
@click.argument("chats", nargs=-1, required=True, metavar="CHAT...", shell_complete=complete_chat)
@yes_option
def delete(chats: tuple[str, ...], yes: bool) -> None:
    """Delete CHATs for good: text, search entries and KV states."""
    with writing_store() as store:
        found = {chat.id: chat for chat in map(store.find_chat, chats)}
        if not yes:
            for chat in found.values():
                click.echo(_chat_line(chat), err=True)
            question = "Delete this chat for good?" if len(found) == 1 else "Delete them for good?"
            insist(question, "Nothing was deleted.")
        for chat_id in found:
            _forget_state(store.delete_chat(chat_id))


@history.command()
@click.argument("file", type=file_type)
def backup(file: Path) -> None:
    """Write all chats to the new FILE."""
    with writing_store() as store:
        store.backup(file)


@history.command(short_help="Replace all chats by a backup.")
@click.argument("file", type=file_type)
@yes_option
def restore(file: Path, yes: bool) -> None:
    """Replace all chats by those of FILE, which `history backup` has written."""
    with writing_store() as store:
        before = store.chats()
        if before and not yes:
            insist(
                f"This replaces the chats you have ({len(before)}). Continue?",
                "Nothing was restored.",
            )
        store.restore(file)
        kept = {chat.id for chat in store.chats()}
        for chat in before:
            if chat.id not in kept:
                _forget_state(chat.id)


def _held_line(chat: Chat) -> str:
    """Who would answer in the chat now, and how: as the window says it."""
    from openchat_local.app.settings.model import load_settings
    from openchat_local.app.settings.per_chat import chat_fields, effective_settings
    from openchat_local.app.settings.who_answers import effective_in_words

    now = effective_settings(load_settings(), chat_fields(chat))
    return f"*Options: {effective_in_words(now)}*"


def _forget_state(chat_id: str) -> None:
    from openchat_local.app.chats.errors import translated
    from openchat_local.app.paths import states_dir
    from openchat_local.models.engine.states import forget_chat

    with translated(states_dir()):
        forget_chat(states_dir(), chat_id)


def _chat_line(chat: Chat) -> str:
    marks = [mark for mark, on in (("pinned", chat.pinned), ("private", chat.private)) if on]
    marks += [f"#{tag}" for tag in chat.tags]
    count = counted(chat.message_count, "message")
    line = (
        f"{chat.short_id}  {local_time(chat.updated_at)}  {count:>12}  {chat.title or 'Untitled'}"
    )
    return one_line(f"{line}  [{', '.join(marks)}]" if marks else line)


def _hit_lines(hit: SearchHit) -> str:
    where = hit.role or "title"
    head = f"{hit.chat_id[-8:]}  {local_time(hit.created_at)}  {where:>9}  {hit.title}"
    if hit.message_id is None:
        found_for_tags = not hit.matches and hit.snippet.startswith("#")
        return one_line(f"{head}  [{hit.snippet}]" if found_for_tags else head)
    return f"{one_line(head)}\n    {_highlighted(hit)}"


def _highlighted(hit: SearchHit) -> str:
    pieces, end = [], 0
    for start, stop in hit.matches:
        pieces.append(one_line(hit.snippet[end:start]))
        # click drops the style where output is no terminal.
        pieces.append(click.style(one_line(hit.snippet[start:stop]), bold=True))
        end = stop
    return "".join([*pieces, one_line(hit.snippet[end:])])
