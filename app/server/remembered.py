"""Which conversations are gone on with: their KV states outlive their requests, and the server."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from openchat_local.models.conversation import Conversation
from openchat_local.models.engine.protocol import Engine

_MOST_KNOWN = 1024  # beginnings that came once, by their hashes
_AT_HAND = 3  # that stay in the engine's cache however long; idle cells make all others slower
_IDLE = 60.0  # seconds after which others are written to disk, and give way
_LEAST = 400  # characters of a system prompt that is worth a state of its own


class Remembered:
    """Gives chat keys to conversations that begin as one before them did, in which the engine keeps
    their state (see `GenerationRequest.chat_key`). What comes once leaves nothing."""

    def __init__(self, engine: Engine, folder: Path | None) -> None:
        """`folder` is where the engine keeps states; without one there are no keys."""
        self._engine = engine
        self._folder = folder
        self._known: OrderedDict[str, None] = OrderedDict()
        self._at_hand: OrderedDict[str, float] = OrderedDict()  # when each came last
        self._lock = threading.Lock()

    def key_of(self, conversation: Conversation) -> str | None:
        """The key of a conversation that is asked about now; None for one that is new."""
        if self._folder is None:
            return None
        with self._lock:
            keys = [*_beginnings(conversation)]
            found = next((key for key in keys if self._is_known(key)), None)
            for key in keys:
                self._known[key] = None
                self._known.move_to_end(key)
            while len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
            left = [] if found is None else [*self._taken(found)]
        for key in left:
            self._engine.leave(key)
        return found

    def _is_known(self, key: str) -> bool:
        assert self._folder is not None
        return key in self._known or any(self._folder.glob(f"{key}.*.kv"))

    def _taken(self, key: str) -> Iterator[str]:
        """`key` is at hand; those that no longer are."""
        now = time.monotonic()
        self._at_hand[key] = now
        self._at_hand.move_to_end(key)
        while len(self._at_hand) > _AT_HAND:
            oldest, came = next(iter(self._at_hand.items()))
            if now - came < _IDLE:
                break
            del self._at_hand[oldest]
            yield oldest


def _beginnings(conversation: Conversation) -> Iterator[str]:
    """Keys of what a conversation begins with, the longest first: up to its first user turn, and
    its system prompt."""
    turns = conversation.messages
    first = next((n for n, turn in enumerate(turns) if turn.role == "user"), len(turns) - 1)
    lengths = [first + 1]
    if sum(len(turn.content) for turn in turns[:first]) >= _LEAST:
        lengths.append(first)
    for length in lengths:
        said = [[turn.role, turn.content] for turn in turns[:length]]
        whole = json.dumps([conversation.condition, conversation.tools, said])
        yield f"served-{hashlib.blake2b(whole.encode(), digest_size=16).hexdigest()}"
