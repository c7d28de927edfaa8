"""Conversations as every room of the program passes them around."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `content` is text and only text: no part of it is ever a control token."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns, oldest first, and the condition they are held under.

    `condition` is C-RLFT's class label (arXiv 2309.11235), such as ``"GPT4 Correct"``,
    written into every role header. ``None`` means the template family's default;
    the empty string means no condition at all, which is not the same.
    """

    messages: tuple[Message, ...]
    condition: str | None = None
