"""Our own JSON back into a chat: every branch, figure and setting of it."""

from __future__ import annotations

from typing import Any

from openchat_local.app.chats.drafts import ChatDraft, MessageDraft
from openchat_local.app.chats.formats.checks import (
    CHAT_FIELDS,
    MESSAGE_FIELDS,
    Faults,
    at,
    check_fields,
)
from openchat_local.app.chats.formats.export import VERSION

_TOP_LEVEL = {"format", "version", "chat", "messages"}


def own_chat(place: str, value: dict[str, Any], faults: Faults) -> ChatDraft:
    """The chat in a document of ours; its faults go to `faults`."""
    before = len(faults)
    if value.get("version") != VERSION:
        faults.append(
            f"{at(place, 'version')} is not {VERSION} (a newer openchat-local may have written it)"
        )
        return ChatDraft(())
    faults += [f"{at(place, name)} is not a known field" for name in value.keys() - _TOP_LEVEL]
    fields = check_fields(value.get("chat"), CHAT_FIELDS, set(), at(place, "chat"), faults)
    listed = value.get("messages")
    if not isinstance(listed, list):
        faults.append(f"{at(place, 'messages')} is not a list")
        return ChatDraft(())

    index_of: dict[str | None, int | None] = {None: None}
    messages = []
    for i, each in enumerate(listed):
        where = at(place, f"messages[{i}]")
        message = check_fields(each, MESSAGE_FIELDS, {"id", "role", "content"}, where, faults)
        own_id, parent_id = message.pop("id", f"faulty {i}"), message.pop("parent_id", None)
        if own_id in index_of:
            faults.append(f"{where}.id is that of an earlier message")
        if parent_id not in index_of:
            faults.append(f"{where}.parent_id is not the id of an earlier message")
        index_of[own_id] = i
        messages.append(_message(message, index_of.get(parent_id)))

    leaf_id = fields.pop("leaf_id", None)
    if leaf_id not in index_of:
        faults.append(f"{at(place, 'chat.leaf_id')} is not the id of a message")
    if len(faults) > before:
        return ChatDraft(())
    fields.pop("id", None)
    tags, origin = fields.pop("tags", ()), fields.pop("origin", None)
    return ChatDraft(tuple(messages), fields, tags, index_of[leaf_id], origin)


def _message(fields: dict[str, Any], parent: int | None) -> MessageDraft:
    role, content = fields.pop("role", "user"), fields.pop("content", "")
    # It was being written when it was exported.
    if role == "assistant" and fields.get("finish_reason") is None:
        fields["finish_reason"] = "interrupted"
    return MessageDraft(role, content, parent, fields)
