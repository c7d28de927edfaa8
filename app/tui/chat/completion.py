"""How what stands before the cursor may go on: commands, their arguments, files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from openchat_local.app.tui.chat.slash import SlashCommand, command_name

LISTED = 50

_COMMAND = re.compile(r"/([A-Za-z_-]*)")
_ARGUMENT = re.compile(r"/([A-Za-z_-]+) (.*)")
_FILE = re.compile(r'(?:.*\s)?@("?)([^"]*)', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """`insert` takes the place of the last `length` characters before the cursor."""

    label: str
    note: str
    insert: str
    length: int
    is_command: bool = False


def suggestions(before: str, commands: Sequence[SlashCommand]) -> list[Suggestion]:
    """What may follow `before`, the text up to the cursor. Reads the disk."""
    if match := _COMMAND.fullmatch(before):
        return list(_commands(command_name(match[1]), commands))
    if match := _ARGUMENT.fullmatch(before):
        return list(_arguments(command_name(match[1]), match[2], commands))
    if (match := _FILE.fullmatch(before)) and (match[1] or not re.search(r"\s", match[2])):
        return list(_files(match[2], quoted=bool(match[1])))
    return []


def _commands(written: str, commands: Sequence[SlashCommand]) -> Iterator[Suggestion]:
    for command in commands:
        if command.name.startswith(written):
            insert = f"/{command.name}" + (" " if command.argument else "")
            yield Suggestion(command.usage, command.summary, insert, len(written) + 1, True)


def _arguments(name: str, written: str, commands: Sequence[SlashCommand]) -> Iterator[Suggestion]:
    command = next((each for each in commands if each.name == name), None)
    if command is not None and command.choices is not None:
        for choice in command.choices():
            if choice.casefold().startswith(written.casefold()) and choice != written:
                yield Suggestion(choice, "", choice, len(written))


def _files(written: str, *, quoted: bool) -> Iterator[Suggestion]:
    folder, _, start = written.rpartition("/")
    above = f"{folder}/" if "/" in written else ""
    try:
        entries = sorted(
            os.scandir(Path(above or ".").expanduser()), key=lambda entry: entry.name.casefold()
        )
    except (OSError, RuntimeError, ValueError):
        return
    found = 0
    for entry in entries:
        name = entry.name
        hidden = name.startswith(".") and not start.startswith(".")
        if hidden or not name.casefold().startswith(start.casefold()) or not name.isprintable():
            continue
        end = "/" if _is_folder(entry) else ""
        path = f"{above}{name}{end}"
        if '"' in path:
            continue
        needs_quotes = quoted or " " in path
        close = '"' if needs_quotes and not end else ""
        insert = f'@"{path}{close}' if needs_quotes else f"@{path}"
        if insert != f"@{written}":
            length = len(written) + 1 + quoted
            yield Suggestion(f"{name}{end}", "", insert, length)
            found += 1
            if found == LISTED:
                return


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
