"""Open WebUI's exported chats: trees of messages, with ratings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openchat_local.app.chats.drafts import ChatDraft
from openchat_local.app.chats.formats.checks import TAGS, at
from openchat_local.app.chats.formats.content import file_marks, joined, parts_text
from openchat_local.app.chats.formats.findings import Findings, cleaned
from openchat_local.app.chats.formats.tree import Node, chat_fields, chat_of, seconds, text_or_none
from openchat_local.models.conversation import Role

_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}


def is_open_webui(value: Mapping[str, Any]) -> bool:
    return isinstance(_history(value).get("messages"), dict)


def open_webui_chat(place: str, value: Mapping[str, Any], findings: Findings) -> ChatDraft:
    """A chat with all its branches, ratings and tags."""
    chat = _inner(value)
    history = _history(value)
    nodes = {}
    for name, message in history["messages"].items():
        where = f"{at(place, 'history.messages')}.{name}"
        if isinstance(message, dict):
            nodes[name] = _node(message, where, findings)
        else:
            findings.fault(f"{where} is not an object")
    title = value.get("title") or chat.get("title")
    created = value.get("created_at") or chat.get("timestamp")
    fields = chat_fields(title, created, value.get("updated_at"), place, findings)
    params = chat.get("params")
    system = params.get("system") if isinstance(params, dict) else None
    if system := text_or_none(system) or text_or_none(chat.get("system")):
        fields["system_prompt"] = cleaned(system, place, findings)
    if value.get("pinned") is True:
        fields["pinned"] = True
    leaf = text_or_none(history.get("currentId"))
    return chat_of(nodes, leaf, fields, place, findings, _tags(value, chat))


def _node(message: Mapping[str, Any], place: str, findings: Findings) -> Node:
    parent = text_or_none(message.get("parentId"))
    word = message.get("role")
    role = _ROLES.get(word) if isinstance(word, str) else None
    if role is None:
        findings.fault(f"{place}.role is not one of {', '.join(_ROLES)}")
    content = message.get("content")
    listed = content if isinstance(content, list) else [content or ""]
    texts = [parts_text(listed, f"{place}.content", findings)]
    texts += file_marks(message.get("files"), place, findings)
    node = Node(parent, role, cleaned(joined(texts), place, findings))
    if not node.content.strip():
        return Node(parent)
    if (created := seconds(message.get("timestamp"))) is not None:
        node.fields["created_at"] = created
    if role == "assistant":
        annotation = message.get("annotation")
        rating = annotation.get("rating") if isinstance(annotation, dict) else None
        node.fields |= {
            "model": text_or_none(message.get("model")),
            "rating": rating if type(rating) is int and rating in (1, -1) else None,
            "finish_reason": "interrupted" if message.get("done") is False else "stop",
        }
    return node


def _inner(value: Mapping[str, Any]) -> Mapping[str, Any]:
    chat = value.get("chat")
    return chat if isinstance(chat, dict) else value


def _history(value: Mapping[str, Any]) -> Mapping[str, Any]:
    history = _inner(value).get("history")
    return history if isinstance(history, dict) else {}


def _tags(value: Mapping[str, Any], chat: Mapping[str, Any]) -> list[str]:
    meta = value.get("meta")
    tags = []
    for listed in (chat.get("tags"), meta.get("tags") if isinstance(meta, dict) else None):
        for each in listed if isinstance(listed, list) else ():
            name = each.get("name") if isinstance(each, dict) else each
            if isinstance(name, str) and TAGS.accepts([name]) and name not in tags:
                tags.append(name)
    return tags
