"""ChatGPT's `conversations.json`: each chat a tree of nodes, the shown leaf named."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from typing import Any

from openchat_local.app.chats.drafts import ChatDraft
from openchat_local.app.chats.formats import findings as found
from openchat_local.app.chats.formats.checks import at
from openchat_local.app.chats.formats.content import joined, tool_answer
from openchat_local.app.chats.formats.findings import Findings, cleaned
from openchat_local.app.chats.formats.tree import Node, chat_fields, chat_of, seconds, text_or_none
from openchat_local.app.chats.formats.verdicts import Verdict, reason_in_words
from openchat_local.models.conversation import Role

Verdicts = Mapping[str, Verdict]

_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "critic": "assistant",
    "tool": "user",
}
_HIDDEN = frozenset({"user_editable_context", "model_editable_context"})
_THOUGHTS = frozenset({"thoughts", "reasoning_recap"})
_ENDS = {"max_tokens": "length", "interrupted": "cancelled"}


def is_chatgpt(value: Mapping[str, Any]) -> bool:
    return isinstance(value.get("mapping"), dict)


def chatgpt_chat(
    place: str, value: Mapping[str, Any], findings: Findings, verdicts: Verdicts
) -> ChatDraft:
    """A conversation with all its branches. `verdicts` are by the message's id."""
    nodes = {}
    for name, node in value["mapping"].items():
        if not isinstance(node, dict):
            findings.fault(f"{at(place, 'mapping')}.{name} is not an object")
            continue
        nodes[name] = _node(node, name, f"{at(place, 'mapping')}.{name}", findings, verdicts)
    title, created, updated = (value.get(key) for key in ("title", "create_time", "update_time"))
    fields = chat_fields(title, created, updated, place, findings)
    leaf = value.get("current_node")
    return chat_of(nodes, leaf if isinstance(leaf, str) else None, fields, place, findings)


def verdicts_of(feedback: Any) -> dict[str, Verdict]:
    """The ratings in `message_feedback.json` and their reasons, by the message's id."""
    verdicts = {}
    for each in feedback if isinstance(feedback, list) else ():
        if isinstance(each, dict):
            rating = re.sub(r"[^a-z]", "", str(each.get("rating", "")).lower())
            message = each.get("message_id") or each.get("id")
            if isinstance(message, str) and rating in ("thumbsup", "thumbsdown"):
                verdicts[message] = Verdict(1 if rating == "thumbsup" else -1, _reason(each))
    return verdicts


def _reason(feedback: Mapping[str, Any]) -> str | None:
    said: Any = feedback.get("content")
    if isinstance(said, str):  # JSON within JSON
        with contextlib.suppress(ValueError, RecursionError):
            said = json.loads(said)
    said = said if isinstance(said, dict) else feedback
    tags = said.get("tags")
    return reason_in_words(tags if isinstance(tags, list) else (), said.get("text"))


def _node(
    node: Mapping[str, Any], name: str, place: str, findings: Findings, verdicts: Verdicts
) -> Node:
    parent = node.get("parent")
    kept = Node(parent if isinstance(parent, str) else None)
    message = node.get("message")
    if not isinstance(message, dict):
        return kept
    author, metadata = _table(message, "author"), _table(message, "metadata")
    content = _table(message, "content")
    word = author.get("role")
    role = _ROLES.get(word) if isinstance(word, str) else None
    if role is None:
        findings.fault(f"{place}.message.author.role is not one of {', '.join(_ROLES)}")
        return kept
    hidden = metadata.get("is_visually_hidden_from_conversation")
    if hidden or text_or_none(content.get("content_type")) in _HIDDEN:
        if content.get("parts") != [""]:
            findings.note(found.HIDDEN, place)
        return kept
    text = _text(content, place, findings)
    if not text.strip():
        return kept
    recipient = message.get("recipient")
    if word == "assistant" and recipient not in (None, "all"):
        findings.note(found.TOOL_CALL, place)
        block = text if text.startswith("```") else f"```\n{text}\n```"
        text = f"[call of {recipient}]\n\n{block}"
    elif word == "tool":
        findings.note(found.TOOL_ANSWER, place)
        text = tool_answer(text)
    kept.role, kept.content = role, cleaned(text, place, findings)
    if (created := seconds(message.get("create_time"))) is not None:
        kept.fields["created_at"] = created
    if role == "assistant":
        kept.fields |= _figures(message, metadata)
        if verdict := verdicts.get(str(message.get("id", name))):
            kept.fields |= verdict.fields
    return kept


def _figures(message: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    end = _table(metadata, "finish_details").get("type")
    reason = _ENDS.get(end, "stop") if isinstance(end, str) else "stop"
    if message.get("status") == "in_progress":
        reason = "interrupted"
    return {"model": text_or_none(metadata.get("model_slug")), "finish_reason": reason}


def _text(content: Mapping[str, Any], place: str, findings: Findings) -> str:
    kind = text_or_none(content.get("content_type"))
    if kind in _THOUGHTS:
        findings.note(found.THOUGHTS, place)
        return ""
    parts = content.get("parts")
    texts = [_part(part, place, findings) for part in parts] if isinstance(parts, list) else []
    for name in ("text", "result", "content"):
        if not any(texts) and isinstance(content.get(name), str):
            texts = [content[name]]
    if kind == "code" and any(texts):
        language = content.get("language")
        known = language if isinstance(language, str) and language != "unknown" else ""
        texts = [f"```{known}\n{''.join(texts)}\n```"]
    return joined(texts)


def _part(part: Any, place: str, findings: Findings) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("content_type") if isinstance(part, dict) else None
    if isinstance(kind, str):
        if isinstance(part.get("text"), str):  # what was said aloud, written down
            return str(part["text"])
        for word, note, mark in (
            ("image", found.IMAGE, "[image]"),
            ("audio", found.AUDIO, "[audio]"),
        ):
            if word in kind:
                findings.note(note, place)
                return mark
    if part:
        findings.note(found.UNKNOWN_PART, place)
    return ""


def _table(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = value.get(name)
    return inner if isinstance(inner, dict) else {}
