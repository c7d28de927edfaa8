"""OpenAI's messages become a conversation, whose contents are text and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from openchat_local.app.server.bodies import ChatMessage
from openchat_local.app.server.errors import ApiError, refused
from openchat_local.app.server.tools import calls_of
from openchat_local.models.conversation import Conversation, Message, Role, ToolCall
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
    calls: dict[str, ToolCall] = {}
    turns = [
        _turn(message, f"messages.{number}", thoughts, calls)
        for number, message in enumerate(messages)
    ]
    turns = [turn for turn in turns if turn.content or turn.calls or turn.role == "user"]
    if not any(turn.role == "user" and turn.result_of is None for turn in turns):
        raise refused("messages has no user turn: there is nothing to answer.", "messages")
    if turns[-1].calls:
        raise refused("messages ends with calls: their results come next.", "messages")
    return Conversation(tuple(_joined(turns)), condition)


def goes_on(conversation: Conversation) -> bool:
    """Whether the last turn is a reply that is to be continued."""
    return conversation.messages[-1].role == "assistant"


def _turn(
    message: ChatMessage, where: str, thoughts: ThoughtMarks | None, calls: dict[str, ToolCall]
) -> Message:
    """`calls` are those of the turns before, by their ids."""
    text = _text(message.content, f"{where}.content")
    if message.role == "tool":
        answered = calls.get(message.tool_call_id or "")
        if answered is None:
            raise refused(
                f"{where}.tool_call_id: no message before has a call of this id.",
                f"{where}.tool_call_id",
            )
        return Message("user", text, result_of=answered)
    role = _ROLES.get(message.role)
    if role is None:
        raise refused(
            f"{where}.role: {message.role[:40]!r} is none of system, developer, user, assistant "
            "and tool.",
            f"{where}.role",
        )
    if role != "assistant":
        return Message(role, text)
    if thoughts is not None and message.reasoning_content:
        text = thoughts.around(message.reasoning_content, text)
    called = calls_of(message.tool_calls or [], f"{where}.tool_calls")
    calls |= {call.id: call for call in called}
    return Message(role, text, calls=called)


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
    def kind(turn: Message) -> object:
        by_itself = turn.calls or turn.result_of is not None
        return id(turn) if by_itself else turn.role

    for _, run in groupby(turns, key=kind):
        first, *rest = run
        if rest:
            first = replace(first, content="\n\n".join(turn.content for turn in (first, *rest)))
        yield first
