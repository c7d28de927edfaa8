"""The thoughts that a reply opens with."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openchat_local.app.chats import StoredMessage

# They open a reply. Where the template has opened them for the model, only their end is in its
# text, on a line of its own; elsewhere the word is a word.
_THOUGHTS = re.compile(
    r"\s*<think>.*?(?:</think>\s*|\Z)|(?:(?!<think>).)*?^[ \t]*</think>[ \t]*$\s*",
    re.DOTALL | re.MULTILINE,
)


def without_thoughts(text: str) -> str:
    """A reply without the thoughts that it opens with; "" where it broke off in them."""
    if "think>" not in text:
        return text
    found = _THOUGHTS.match(text)
    return text[found.end() :] if found else text


def all_without_thoughts(messages: Iterable[StoredMessage]) -> list[StoredMessage]:
    """The messages, their replies without thoughts."""
    return [
        replace(message, content=without_thoughts(message.content))
        if message.role == "assistant" and "think>" in message.content
        else message
        for message in messages
    ]
