"""Claude's `conversations.json`: messages that name the one they answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openchat_local.app.chats.drafts import ChatDraft
from openchat_local.app.chats.formats.checks import at
from openchat_local.app.chats.formats.content import file_marks, joined, parts_text
from openchat_local.app.chats.formats.findings import Findings, cleaned
from openchat_local.app.chats.formats.tree import Node, chat_fields, chat_of, seconds, text_or_none
from openchat_local.models.conversation import Role

_ROLES: dict[str, Role] = {"human": "user", "user": "user", "assistant": "assistant"}
_ENDS = {"max_tokens": "length", "user_canceled": "cancelled", "user_cancelled": "cancelled"}


def is_claude(value: Mapping[str, Any]) -> bool:
    return isinstance(value.get("chat_messages"), list)


def claude_chat(place: str, value: Mapping[str, Any], findings: Findings) -> ChatDraft:
    """A conversation; with its branches, where the messages name their parents."""
    nodes: dict[str, Node] = {}
    last: str | None = None
    for i, message in enumerate(value["chat_messages"]):
        where = f"{at(place, 'chat_messages')}[{i}]"
        if not isinstance(message, dict):
            findings.fault(f"{where} is not an object")
            continue
        name = str(message.get("uuid") or i)
        parent = message.get("parent_message_uuid") or last
        nodes[name] = _node(message, parent if isinstance(parent, str) else None, where, findings)
        last = name
    title = value.get("name")
    fields = chat_fields(title, value.get("created_at"), value.get("updated_at"), place, findings)
    leaf = text_or_none(value.get("current_leaf_message_uuid")) or last
    return chat_of(nodes, leaf, fields, place, findings)


def _node(message: Mapping[str, Any], parent: str | None, place: str, findings: Findings) -> Node:
    sender = message.get("sender")
    role = _ROLES.get(sender) if isinstance(sender, str) else None
    if role is None:
        findings.fault(f"{place}.sender is not one of {', '.join(_ROLES)}")
    text = cleaned(_text(message, place, findings), place, findings)
    if not text.strip():
        return Node(parent)
    node = Node(parent, role, text)
    if (created := seconds(message.get("created_at"))) is not None:
        node.fields["created_at"] = created
    if role == "assistant":
        end = message.get("stop_reason")
        node.fields["finish_reason"] = _ENDS.get(end, "stop") if isinstance(end, str) else "stop"
        node.fields["model"] = text_or_none(message.get("model"))
    return node


def _text(message: Mapping[str, Any], place: str, findings: Findings) -> str:
    parts = message.get("content")
    text = parts_text(parts, f"{place}.content", findings) if isinstance(parts, list) else ""
    if not text and isinstance(message.get("text"), str):
        text = message["text"]
    texts = [text]
    attachments = message.get("attachments")
    for each in attachments if isinstance(attachments, list) else ():
        # A long text that was pasted in is kept here alone.
        inside = each.get("extracted_content") if isinstance(each, dict) else None
        if isinstance(inside, str) and inside:
            name = text_or_none(each.get("file_name")) or "pasted"
            texts.append(f"[{name}]\n\n{inside}")
        elif isinstance(each, dict):
            texts += file_marks([each], place, findings)
    texts += file_marks(message.get("files"), place, findings)
    return joined(texts)
