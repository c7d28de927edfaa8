"""Open WebUI's exported chats: trees of messages, with ratings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from openchat_local.app.chats.drafts import ChatDraft
from openchat_local.app.chats.formats import findings as found
from openchat_local.app.chats.formats.checks import TAGS, at
from openchat_local.app.chats.formats.content import file_marks, joined
from openchat_local.app.chats.formats.findings import Findings, cleaned
from openchat_local.app.chats.formats.open_webui_text import reply_text
from openchat_local.app.chats.formats.tree import Node, chat_fields, chat_of, seconds, text_or_none
from openchat_local.app.chats.formats.verdicts import Verdict, reason_in_words
from openchat_local.models.conversation import Role

_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}


def is_open_webui(value: Mapping[str, Any]) -> bool:
    return isinstance(_history(value).get("messages"), dict)


def open_webui_chat(place: str, value: Mapping[str, Any], findings: Findings) -> ChatDraft:
    """A chat with all its branches, ratings and tags."""
    return draft_of(place, value, nodes_of(place, messages_of(value), findings), findings)


def messages_of(value: Mapping[str, Any]) -> dict[str, Any]:
    """The messages of a chat by their ids, as the file has them."""
    messages = _history(value).get("messages")
    return messages if isinstance(messages, dict) else {}


def nodes_of(place: str, messages: Mapping[str, Any], findings: Findings) -> dict[str, Node]:
    """Messages as nodes of a tree. A reply that was edited in its place stands beside what the
    model had written, as one that is edited here does."""
    nodes: dict[str, Node] = {}
    for name, message in messages.items():
        where = f"{at(place, 'history.messages')}.{name}"
        if not isinstance(message, dict):
            findings.fault(f"{where} is not an object")
            continue
        node = _node(message, message.get("content"), where, findings)
        before = message.get("originalContent")
        if node.role == "assistant" and isinstance(before, str) and before.strip():
            original = _node(message, before, where, Findings())
            if original.content and original.content != node.content:
                nodes[_before_the_edit(name)] = original
                node.fields["edited"] = True
        nodes[name] = node
        if node.role == "assistant" and (verdict := _verdict(message)):
            rate(nodes, name, verdict)
    return nodes


def rate(nodes: Mapping[str, Node], name: str, verdict: Verdict) -> None:
    """Put a verdict on the reply called `name`, in place of the one it has. That an edited
    reply is bad was said of what the model had written."""
    before = nodes.get(_before_the_edit(name))
    for node in filter(None, (before, nodes[name])):
        node.fields.pop("rating", None)
        node.fields.pop("rating_reason", None)
    rated = before if before is not None and verdict.rating < 0 else nodes[name]
    rated.fields |= verdict.fields


def verdict_of(said: Mapping[str, Any]) -> Verdict | None:
    """What an annotation of a reply, or the data of a feedback, says of it."""
    rating = said.get("rating")
    # Some versions write the number as text. JSON's true is no 1.
    good = {"1": 1, "-1": -1}.get(str(rating)) if type(rating) in (int, str) else None
    if good is None:
        return None
    return Verdict(good, reason_in_words([said.get("reason")], said.get("comment")))


def draft_of(
    place: str,
    value: Mapping[str, Any],
    nodes: Mapping[str, Node],
    findings: Findings,
    tags: Iterable[Any] = (),
) -> ChatDraft:
    """The chat `value`, made of `nodes` and with `tags` beside its own."""
    chat = _inner(value)
    title = value.get("title") or chat.get("title")
    created = value.get("created_at") or chat.get("timestamp")
    fields = chat_fields(title, created, value.get("updated_at"), place, findings)
    params = chat.get("params")
    system = params.get("system") if isinstance(params, dict) else None
    if system := text_or_none(system) or text_or_none(chat.get("system")):
        fields["system_prompt"] = cleaned(system, place, findings)
    if value.get("pinned") is True:
        fields["pinned"] = True
    leaf = text_or_none(_history(value).get("currentId"))
    return chat_of(nodes, leaf, fields, place, findings, _tags(value, chat, tags))


def _before_the_edit(name: str) -> str:
    return f"{name}, before it was edited"


def _node(message: Mapping[str, Any], content: Any, place: str, findings: Findings) -> Node:
    parent = text_or_none(message.get("parentId"))
    word = message.get("role")
    role = _ROLES.get(word) if isinstance(word, str) else None
    if role is None:
        findings.fault(f"{place}.role is not one of {', '.join(_ROLES)}")
    failed = message.get("error")
    if failed is True:  # as older versions had it: the content is the error
        findings.note(found.ERROR, place)
        return Node(parent)
    texts = [reply_text(content or "", message.get("output"), place, findings)]
    texts += file_marks(message.get("files"), place, findings)
    node = Node(parent, role, cleaned(joined(texts), place, findings))
    if not node.content.strip():
        return Node(parent)
    if (created := seconds(message.get("timestamp"))) is not None:
        node.fields["created_at"] = created
    if role == "assistant":
        end = "interrupted" if message.get("done") is False else "stop"
        # In an arena `model` is the arena, and the one that was drawn stands beside it.
        drawn = text_or_none(message.get("selectedModelId"))
        node.fields |= {
            "model": drawn or text_or_none(message.get("model")),
            "finish_reason": "engine died" if failed else end,
        }
    return node


def _verdict(message: Mapping[str, Any]) -> Verdict | None:
    annotation = message.get("annotation")
    # The versions before annotations kept the rating on the message.
    return verdict_of(annotation if isinstance(annotation, dict) else message)


def _inner(value: Mapping[str, Any]) -> Mapping[str, Any]:
    chat = value.get("chat")
    return chat if isinstance(chat, dict) else value


def _history(value: Mapping[str, Any]) -> Mapping[str, Any]:
    history = _inner(value).get("history")
    return history if isinstance(history, dict) else {}


def _tags(value: Mapping[str, Any], chat: Mapping[str, Any], more: Iterable[Any]) -> list[str]:
    meta = value.get("meta")
    listed: Sequence[Any] = (chat.get("tags"), meta.get("tags") if isinstance(meta, dict) else None)
    tags: list[str] = []
    for each in (*(tag for some in listed if isinstance(some, list) for tag in some), *more):
        name = each.get("name") if isinstance(each, dict) else each
        if isinstance(name, str) and TAGS.accepts([name]) and name not in tags:
            tags.append(name)
    return tags
