"""Foreign chats that are trees, or lists of alternatives, as drafts of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from openchat_local.app.chats.drafts import ChatDraft, MessageDraft
from openchat_local.app.chats.formats.checks import TIME, is_text
from openchat_local.app.chats.formats.findings import Findings, cleaned
from openchat_local.models.conversation import Role


@dataclass(slots=True)
class Node:
    """A message under the one called `parent` (None, or unknown: at the root). Without a role
    it is none of the chat's: what follows it follows the one before it."""

    parent: str | None
    role: Role | None = None
    content: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


def chat_of(
    nodes: Mapping[str, Node],
    leaf: str | None,
    fields: dict[str, Any],
    place: str,
    findings: Findings,
    tags: Sequence[str] = (),
) -> ChatDraft:
    """The tree as a draft: siblings in the order of `nodes`, and the branch that ends in
    `leaf` (None: the last) shown. A system message at the root is its system prompt."""
    children: dict[str | None, list[str]] = {}
    for name, node in nodes.items():
        parent = node.parent if node.parent in nodes and node.parent != name else None
        children.setdefault(parent, []).append(name)
    index_of: dict[str, int | None] = {}
    messages: list[MessageDraft] = []
    waiting: list[tuple[str, int | None]] = [(name, None) for name in children.get(None, [])[::-1]]
    while waiting:  # no recursion: a long chat is a deep tree
        name, above = waiting.pop()
        node = nodes[name]
        if node.role == "system" and above is None and not fields.get("system_prompt"):
            fields["system_prompt"] = node.content
        elif node.role is not None:
            messages.append(MessageDraft(node.role, node.content, above, node.fields))
            above = len(messages) - 1
        index_of[name] = above
        waiting += [(child, above) for child in children.get(name, [])[::-1]]
    if len(index_of) < len(nodes):
        findings.fault(f"{place.removesuffix(', ') or 'the file'} has messages that go in circles")
    return ChatDraft(tuple(messages), fields, tags, index_of.get(leaf) if leaf else None)


def chat_fields(
    title: Any, created: Any, updated: Any, place: str, findings: Findings
) -> dict[str, Any]:
    """Columns of the chat's row, where they are given."""
    fields: dict[str, Any] = {}
    if isinstance(title, str) and title:
        fields["title"] = cleaned(title, f"{place}title", findings)
    for name, value in (("created_at", created), ("updated_at", updated)):
        if (time := seconds(value)) is not None:
            fields[name] = time
    if "created_at" in fields:
        fields.setdefault("updated_at", fields["created_at"])
    return fields


def seconds(value: Any) -> float | None:
    """A time as seconds since 1970: seconds, milli-, micro- or nanoseconds, or ISO 8601; None
    for what is no time."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value).timestamp()
        except (ValueError, OverflowError, OSError):
            return None
    elif isinstance(value, bool) or not isinstance(value, int | float):
        return None
    while 1e11 <= abs(value) < 1e21:
        value /= 1000
    return float(value) if TIME.accepts(value) else None


def text_or_none(value: Any) -> str | None:
    """A name that a foreign file gives, if it is one."""
    return value if isinstance(value, str) and value and is_text(value) else None
