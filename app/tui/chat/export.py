"""The open chat as a file."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING

from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.chats.formats.export import ExportFormat
    from openchat_local.app.tui.chat.context import WindowContext

FORMATS: dict[str, ExportFormat] = {".md": "markdown", ".json": "json"}
ROWS = ".jsonl"


async def export(window: WindowContext, target: str) -> None:
    """Write the open chat to `target`, in the format that its ending names; without one, to
    a new file of its title in the folder that the program was started in."""
    from openchat_local.app.chats import ChatStore
    from openchat_local.app.chats.formats import export_chat

    with window.telling():
        session, chat_id = window.session, window.session.active.id
        chat = None if chat_id is None else await session.run(ChatStore.chat, chat_id)
        if chat is None or not chat.message_count:
            raise OpenChatError("There is nothing to export yet.")
        name = target or f"{_stem(chat.title)}.md"
        ending = Path(name).suffix
        if ending not in (*FORMATS, ROWS):
            raise OpenChatError(
                f"{name} has none of the endings {', '.join((*FORMATS, ROWS))}: .md is to read, "
                ".json to import again, .jsonl to train on."
            )
        if ending == ROWS:
            text, said = await _rows(window, chat.id)
        else:
            text, said = await session.run(export_chat, chat.id, FORMATS[ending]), ""
        path = await asyncio.to_thread(_write, name, text, bool(target))
        window.tell(f"The chat is in {path}.{said}")


async def _rows(window: WindowContext, chat_id: str) -> tuple[str, str]:
    """What the chat teaches, and what is said of the rest of it."""
    from openchat_local.app.learning.one_chat import training_lines
    from openchat_local.app.learning.rules import rules_of

    rules = rules_of(window.session.settings)
    text, said = await window.session.run(training_lines, chat_id, rules)
    return text, "".join(f" {sentence}" for sentence in said)


def _write(name: str, text: str, exactly: bool) -> Path:
    """Write to this file, which must be new; or, unless `exactly`, to one named like it."""
    from openchat_local.app.chats.formats import write_new_file

    try:
        path = Path(name).expanduser() if exactly else _free(Path(name))
        write_new_file(path, text)
    except (RuntimeError, ValueError) as error:  # "~somebody"; a NUL
        raise OpenChatError(f"{name} cannot be written ({error}): name another place.") from None
    return path.absolute()


def _stem(title: str) -> str:
    """A title as the name of a file, on every system."""
    words = re.findall(r"\w+", title)
    return "-".join(words)[:60].strip("-") or "chat"


def _free(path: Path) -> Path:
    number = 1
    free = path
    while free.exists():
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")
    return free
