"""Tokens as the server counts them, by the paths that vLLM, llama-server and we have for that."""

from __future__ import annotations

from typing import Any

from openchat_local.models.conversation import Conversation
from openchat_local.models.engine.remote.discovery import Discovered
from openchat_local.models.engine.remote.link import Link
from openchat_local.models.engine.remote.requests import messages_of
from openchat_local.models.errors import EngineError


def ids_of_text(link: Link, found: Discovered, text: str) -> tuple[int, ...]:
    """The ids of plain text, BOS left out. Raises EngineError."""
    body = {
        "model": found.model, "prompt": text, "content": text,
        "add_special_tokens": False, "add_special": False,
    }  # fmt: skip
    return _ids(link.post("/tokenize", body, root=True))


def ids_of_prompt(link: Link, found: Discovered, conversation: Conversation) -> tuple[int, ...]:
    """The ids of the prompt for the next reply. Raises EngineError."""
    messages: list[dict[str, str]] = messages_of(conversation)
    if found.can.kind == "llama-server":
        rendered = link.post("/apply-template", {"messages": messages}, root=True)
        text = rendered.get("prompt") if isinstance(rendered, dict) else None
        if not isinstance(text, str):
            raise EngineError(f"{link.options.address.place} does not show how it writes a chat.")
        body: dict[str, Any] = {"content": text, "add_special": True, "parse_special": True}
        return _ids(link.post("/tokenize", body, root=True))
    body = {"model": found.model, "messages": messages}
    if found.can.conditions and conversation.condition is not None:
        body["condition"] = conversation.condition
    return _ids(link.post("/tokenize", body, root=True))


def _ids(answer: Any) -> tuple[int, ...]:
    tokens = answer.get("tokens") if isinstance(answer, dict) else None
    if not isinstance(tokens, list) or not all(type(one) is int for one in tokens):
        raise EngineError("The server's tokens are no numbers: it cannot count here.")
    return tuple(tokens)
