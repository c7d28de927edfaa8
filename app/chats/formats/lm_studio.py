"""LM Studio's `*.conversation.json`: a list of turns, each with its versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from openchat_local.app.chats.drafts import ChatDraft
from openchat_local.app.chats.formats import findings as found
from openchat_local.app.chats.formats.checks import at
from openchat_local.app.chats.formats.content import file_marks, joined, parts_text, tool_answer
from openchat_local.app.chats.formats.findings import Findings, cleaned
from openchat_local.app.chats.formats.tree import Node, chat_fields, chat_of, text_or_none
from openchat_local.models.conversation import Role

_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "user",
}
_ENDS = {
    "maxPredictedTokensReached": "length",
    "contextLengthReached": "length",
    "userStopped": "cancelled",
    "modelUnloaded": "engine died",
    "failed": "engine died",
}
_SYSTEM_PROMPT = "llm.prediction.systemPrompt"


def is_lm_studio(value: Mapping[str, Any]) -> bool:
    turns = value.get("messages")
    return isinstance(turns, list) and any(isinstance(t, dict) and "versions" in t for t in turns)


def lm_studio_chat(place: str, value: Mapping[str, Any], findings: Findings) -> ChatDraft:
    """A conversation: the versions of a turn are siblings, and what follows follows the one
    that is selected."""
    nodes: dict[str, Node] = {}
    parent: str | None = None
    for i, turn in enumerate(value["messages"]):
        where = f"{at(place, 'messages')}[{i}]"
        versions = turn.get("versions") if isinstance(turn, dict) else None
        if not isinstance(versions, list) or not versions:
            findings.fault(f"{where} has no versions")
            continue
        for number, version in enumerate(versions):
            if not isinstance(version, dict):
                findings.fault(f"{where}.versions[{number}] is not an object")
                continue
            nodes[f"{i}.{number}"] = _node(version, parent, where, findings)
        chosen = turn.get("currentlySelected")
        parent = f"{i}.{chosen if isinstance(chosen, int) else len(versions) - 1}"
        if parent not in nodes:
            findings.fault(f"{where}.currentlySelected is not one of its versions")
    created = value.get("createdAt")
    fields = chat_fields(value.get("name"), created, value.get("updatedAt"), place, findings)
    fields["system_prompt"] = cleaned(_system_prompt(value), f"{place}systemPrompt", findings)
    if value.get("pinned") is True:
        fields["pinned"] = True
    return chat_of(nodes, parent, fields, place, findings)


def _node(version: Mapping[str, Any], parent: str | None, place: str, findings: Findings) -> Node:
    word = version.get("role")
    role = _ROLES.get(word) if isinstance(word, str) else None
    if role is None:
        findings.fault(f"{place}.role is not one of {', '.join(_ROLES)}")
    steps = version.get("steps")
    blocks = [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    texts = list(_texts(blocks, place, findings)) if blocks else []
    content = version.get("content")
    if isinstance(content, list):
        texts.append(parts_text(content, f"{place}.content", findings))
    texts += file_marks(version.get("preprocessed_files"), place, findings)
    text = cleaned(joined(texts), place, findings)
    if not text.strip():
        return Node(parent)
    if word == "tool":
        findings.note(found.TOOL_ANSWER, place)
        text = tool_answer(text)
    return Node(parent, role, text, _figures(version, blocks) if role == "assistant" else {})


def _texts(blocks: list[dict[str, Any]], place: str, findings: Findings) -> Iterator[str]:
    for number, block in enumerate(blocks):
        where = f"{place}.steps[{number}]"
        style, content = block.get("style"), block.get("content")
        if block.get("type") != "contentBlock" or not isinstance(content, list):
            continue  # what LM Studio notes for itself: status, debugging
        if isinstance(style, dict) and style.get("type") == "thinking":
            findings.note(found.THOUGHTS, where)
        else:
            yield parts_text(content, f"{where}.content", findings)


def _figures(version: Mapping[str, Any], blocks: list[dict[str, Any]]) -> dict[str, Any]:
    sender = version.get("senderInfo")
    model = text_or_none(sender.get("senderName")) if isinstance(sender, dict) else None
    end = "stop"
    for block in blocks:
        info = block.get("genInfo")
        if isinstance(info, dict):
            model = text_or_none(info.get("indexedModelIdentifier")) or model
            stats = info.get("stats")
            reason = stats.get("stopReason") if isinstance(stats, dict) else None
            end = _ENDS.get(reason, "stop") if isinstance(reason, str) else end
    return {"model": model, "finish_reason": end}


def _system_prompt(value: Mapping[str, Any]) -> str:
    configured = value.get("perChatPredictionConfig")
    fields = configured.get("fields") if isinstance(configured, dict) else None
    for each in fields if isinstance(fields, list) else ():
        if isinstance(each, dict) and each.get("key") == _SYSTEM_PROMPT and each.get("value"):
            return text_or_none(each["value"]) or ""
    return text_or_none(value.get("systemPrompt")) or ""
