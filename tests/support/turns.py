"""Messages as the store hands them out, made without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from openchat_local.app.chats import StoredMessage
from openchat_local.models.conversation import Role


def turn(number: int, role: Role, content: str, **fields: Any) -> StoredMessage:
    """Message number `number` of a chat without branches; a complete one."""
    message = StoredMessage(
        id=f"m{number}",
        chat_id="chat",
        parent_id=f"m{number - 1}" if number else None,
        role=role,
        content=content,
        created_at=float(number),
        finish_reason="stop" if role == "assistant" else None,
        model=None,
        adapter=None,
        condition=None,
        template=None,
        sampling=None,
        usage=None,
        rating=None,
        edited=False,
        instance=None,
    )
    return replace(message, **fields)


def prompts(lines: int) -> list[StoredMessage]:
    """So many prompts of one line each: "line 0", "line 1"…"""
    return [turn(number, "user", f"line {number}") for number in range(lines)]


def alternating(contents: Sequence[str]) -> list[StoredMessage]:
    """Prompts and replies in turn."""
    roles: tuple[Role, Role] = ("user", "assistant")
    return [turn(n, roles[n % 2], content) for n, content in enumerate(contents)]


def reply_to(turns: Sequence[StoredMessage], content: str = "", **fields: Any) -> StoredMessage:
    """A reply that another instance could be writing, under the last of `turns`."""
    return turn(len(turns), "assistant", content, **({"instance": "here"} | fields))
