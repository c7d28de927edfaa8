"""Chats on disk: the message tree, search, import and export, backup.

A name is imported when it is first asked for: SQLite is loaded behind a window that is open.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from openchat_local.app.chats.votes import Choice, Side, Vote
    from openchat_local.app.chats.writing import ChatFields

__all__ = [
    "REPLY_ENDS",
    "Chat",
    "ChatFields",
    "ChatImportError",
    "ChatNotFound",
    "ChatStore",
    "ChatStoreError",
    "Choice",
    "MessageNotFound",
    "ReplyEnd",
    "SearchHit",
    "Side",
    "StoredMessage",
    "Vote",
]
_ROOMS = ("errors", "records", "store", "writing", "votes")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for room in _ROOMS:
            module = import_module(f"{__name__}.{room}")
            if name in vars(module):
                globals()[name] = value = vars(module)[name]
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
