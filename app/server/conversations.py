"""OpenAI's messages become a conversation, whose contents are text and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from openchat_local.app.server.bodies import ChatMessage
from openchat_local.app.server.errors import ApiError, refused
from openchat_local.models.conversation import Conversation, Message, Role
from openchat_local.models.thoughts import ThoughtMarks

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}


def conversation_of(
    messages: Sequence[ChatMessage], condition: str | None, thoughts: ThoughtMarks | None = None
) -> Conversation:
    """The conversation under `condition`. Turns of one role that lie side by side become one,
    since many templates insist on alternating roles. What replies thought stands between the
    model's own marks in front of them, `thoughts`, and is left out for a model that has none.
    Raises ApiError."""
    turns = [
        _turn(message, f"messages.{number}", thoughts) for number, message in enumerate(messages)
    ]
    turns = [turn for turn in turns if turn.content or turn.role == "user"]
    if not any(turn.role == "user" for turn in turns):
        raise refused("messages has no user turn: there is nothing to answer.", "messages")
    return Conversation(tuple(_joined(turns)), condition)


def goes_on(conversation: Conversation) -> bool:
    """Whether the last turn is a reply that is to be continued."""
    return conversation.messages[-1].role == "assistant"


def _turn(message: ChatMessage, where: str, thoughts: ThoughtMarks | None) -> Message:
    role = _ROLES.get(message.role)
    if role is None:
        raise refused(
            f"{where}.role: {message.role[:40]!r} is none of system, developer, user and "
            f"assistant{_about_tools(message.role)}.",
            f"{where}.role",
        )
    if message.model_extra and message.model_extra.get("tool_calls"):
        raise refused(
            f"{where}.tool_calls: this server does not call tools.", f"{where}.tool_calls"
        )
    text = _text(message.content, f"{where}.content")
    if role == "assistant" and thoughts is not None and message.reasoning_content:
        text = thoughts.around(message.reasoning_content, text)
    return Message(role, text)


def _about_tools(role: str) -> str:
    return ": this server does not call tools" if role in ("tool", "function") else ""


def _text(content: Any, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise refused(f"{where}: give a string, or a list of text parts.", where)
    return "".join(_part(part, f"{where}.{number}") for number, part in enumerate(content))


def _part(part: Any, where: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else None
    text = part.get("text") if isinstance(part, dict) else None
    if kind in ("text", "input_text", "output_text") and isinstance(text, str):
        return text
    raise _no_text(kind, where)


def _no_text(kind: Any, where: str) -> ApiError:
    if isinstance(kind, str) and kind not in ("text", "input_text", "output_text"):
        return refused(f"{where}: the model reads text, and this is {kind[:40]!r}.", where)
    return refused(f"{where}: give {{'type': 'text', 'text': …}}.", where)


def _joined(turns: Iterable[Message]) -> Iterable[Message]:
    for role, run in groupby(turns, key=lambda turn: turn.role):
        yield Message(role, "\n\n".join(turn.content for turn in run))
