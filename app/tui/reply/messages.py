"""Stored messages as blocks: prompts as they were typed, replies as Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from openchat_local.app.printable import printable
from openchat_local.app.tui.reply.blocks import Block, TextBlock
from openchat_local.app.tui.reply.document import Document
from openchat_local.app.tui.reply.rows import Line

if TYPE_CHECKING:
    from openchat_local.app.chats import StoredMessage

BAR = "▌ "

_REMARKS = {
    "cancelled": "stopped",
    "length": "ended at the token limit",
    "engine died": "the engine ended here",
    "interrupted": "the program ended here",
    "refused": "not answered",
    "not saved": "the end of this reply is not saved",
}


def message_blocks(messages: Iterable[StoredMessage]) -> list[Block]:
    """What is shown of messages. Whatever a terminal could take for a command is made visible."""
    blocks: list[Block] = []
    for message in messages:
        if message.role == "user":
            blocks += prompt_blocks(message.content)
            continue
        if message.role == "system":
            blocks += plain_blocks(f"System: {printable(message.content)}")
            continue
        blocks += Document(printable(message.content)).blocks
        blocks += remark_blocks(message.finish_reason)
    return blocks


def prompt_blocks(text: str) -> list[Block]:
    """A prompt, set off by a bar; its line breaks are its own, nothing in it is Markdown."""
    lines = printable(text).expandtabs(4).split("\n")
    return [TextBlock([Line(((line, ""),), BAR, BAR) for line in lines], face="prompt")]


def remark_blocks(finish_reason: str | None) -> list[Block]:
    """A dim word on why a reply ended, if it did not end by itself."""
    remark = _REMARKS.get(finish_reason or "")
    return plain_blocks(f"— {remark} —") if remark else []


def plain_blocks(text: str) -> list[Block]:
    """The program's own words, dim, in the place of a message."""
    return [TextBlock([Line(((line, "dim"),)) for line in text.split("\n")])]
