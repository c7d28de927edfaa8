"""Chats of random shape for property tests: versions, ratings, edits, replies that were cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from openchat_local.app.chats import Chat, ChatStore, StoredMessage
from support.turns import turn

ENDS = ("stop", "stop", "stop", "stop", "length", "cancelled", "refused", None)
WORDS = ("Yes.", "No.", "Yes. And more.", "", " \n", "<think>hm</think>\n\nYes.", "<think>hm")


def a_chat(**fields: Any) -> Chat:
    """A chat as the store hands it out, made without one."""
    given: dict[str, Any] = {
        "id": "chat", "title": "A chat", "created_at": 1.0, "updated_at": 2.0, "model": None,
        "template": None, "adapter": None, "condition": None, "system_prompt": "",
        "sampling": None, "private": False, "pinned": False, "draft": "", "leaf_id": None,
        "tags": (), "message_count": 0,
    }  # fmt: skip
    return Chat(**given | fields)


@st.composite
def trees(draw: st.DrawFn, most: int = 12) -> list[StoredMessage]:
    """All messages of a chat in the order they were made; replies answer prompts, and prompts
    replies or nothing. Few different texts, so that versions often say the same."""
    messages: list[StoredMessage] = []
    for number in range(draw(st.integers(0, most))):
        asked = [message.id for message in messages if message.role == "user"]
        replies = [message.id for message in messages if message.role == "assistant"]
        if asked and draw(st.integers(0, 2)):
            end = draw(st.sampled_from(ENDS))
            fields = {
                "parent_id": draw(st.sampled_from(asked)),
                "finish_reason": end,
                "rating": draw(st.sampled_from((None, None, None, 1, -1))) if end else None,
                "edited": draw(st.sampled_from((False, False, False, True))),
                "instance": None if end else "here",
            }
            words = draw(st.sampled_from(WORDS))
            messages.append(turn(number, "assistant", words, **fields))
        else:
            parent = draw(st.sampled_from([None, *replies]))
            messages.append(turn(number, "user", f"prompt {number}", parent_id=parent))
    return messages


def put_into(store: ChatStore, messages: Sequence[StoredMessage], **fields: Any) -> str:
    """Write a made chat into a store, by what a window would call; the chat's id."""
    chat = store.new_chat(title="A chat", private=fields.pop("private", False), **fields)
    ids: dict[str | None, str | None] = {None: None}
    for message in messages:
        parent = ids[message.parent_id]
        if message.role == "user" or message.edited:
            added = store.add_message(
                chat.id, parent, message.role, message.content, edited=message.edited
            )
        else:
            added = store.begin_reply(chat.id, parent, model="m")
            if message.finish_reason is not None:
                store.finish_reply(added.id, message.content, message.finish_reason)
        if message.rating is not None:
            store.rate(added.id, message.rating)
        ids[message.id] = added.id
    return chat.id
