"""Chats on disk: the message tree, search, import and export, backup."""

from openchat_local.app.chats.errors import (
    ChatImportError,
    ChatNotFound,
    ChatStoreError,
    MessageNotFound,
)
from openchat_local.app.chats.records import (
    REPLY_ENDS,
    Chat,
    ReplyEnd,
    SearchHit,
    StoredMessage,
)
from openchat_local.app.chats.store import ChatStore
from openchat_local.app.chats.writing import ChatFields

__all__ = [
    "REPLY_ENDS",
    "Chat",
    "ChatFields",
    "ChatImportError",
    "ChatNotFound",
    "ChatStore",
    "ChatStoreError",
    "MessageNotFound",
    "ReplyEnd",
    "SearchHit",
    "StoredMessage",
]
