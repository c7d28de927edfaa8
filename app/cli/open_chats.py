"""The chats of this home, for a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.chats import Chat, ChatStore


@contextmanager
def writing_store() -> Iterator[ChatStore]:
    """The chats of this home."""
    from openchat_local.app.chats import ChatStore
    from openchat_local.app.paths import ensure_home

    store = ChatStore.open(ensure_home())
    try:
        yield store
    finally:
        store.close()


@contextmanager
def reading_store() -> Iterator[ChatStore]:
    """The chats, also those in a home that cannot be written."""
    from openchat_local.app.chats.read_only import ReadOnlyStore, is_read_only
    from openchat_local.app.paths import data_home

    if not is_read_only(data_home()):
        with writing_store() as store:
            yield store
        return
    reader = ReadOnlyStore.open(data_home())
    try:
        yield reader
    finally:
        reader.close()


def named_or_latest(store: ChatStore, part: str | None) -> Chat:
    """The chat that is named, or the one used last. Raises ChatNotFound, OpenChatError."""
    chat = store.find_chat(part) if part else store.latest_chat()
    if chat is None:
        raise OpenChatError("There is no chat yet; `openchat-local` opens the first one.")
    return chat
