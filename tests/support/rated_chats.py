"""Chats with ratings, made in a real store."""

from __future__ import annotations

from typing import Any

from openchat_local.app.chats import Chat, ChatStore


def talk(store: ChatStore, title: str, *replies: tuple[str, int | None], **fields: Any) -> Chat:
    """A chat of one prompt and answer after the other, each answer rated 1, -1 or not at all."""
    chat = store.new_chat(title=title, model="tiny", **fields)
    parent = None
    for text, rating in replies:
        prompt = store.add_message(chat.id, parent, "user", f"Say {text}")
        reply = store.begin_reply(chat.id, prompt.id, model="tiny")
        store.finish_reply(reply.id, text, "stop")
        if rating is not None:
            store.rate(reply.id, rating)
        parent = reply.id
    return store.chat(chat.id)


def enough(store: ChatStore) -> list[Chat]:
    """Two chats from which there is enough to learn, nothing more."""
    good = talk(store, "What was good", *((f"gold {n}", 1) for n in range(6)))
    bad = talk(store, "What was bad", *((f"lead {n}", -1) for n in range(4)))
    return [good, bad]
