"""Ids of chats and messages: unique without a coordinator, sortable by time."""

from __future__ import annotations

import os
import threading
import time

_lock = threading.Lock()
_last = 0


def new_id() -> str:
    """A UUID of version 7 (RFC 9562): 48 bits of milliseconds, then 74 random bits.

    Ids made by one process sort in the order in which they were made, also within a
    millisecond and when the clock is set back.
    """
    global _last
    random = int.from_bytes(os.urandom(10), "big") & (1 << 74) - 1
    with _lock:
        number = max(time.time_ns() // 1_000_000 << 74 | random, _last + 1)
        _last = number
    time_and_low = number >> 74, number & (1 << 74) - 1
    milliseconds, low = time_and_low
    bits = milliseconds << 80 | 7 << 76 | (low >> 62) << 64 | 2 << 62 | low & (1 << 62) - 1
    text = f"{bits:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def made_at(id: str) -> float:
    """When an id was made, in seconds since the epoch. Raises ValueError for what is none."""
    return int(id.replace("-", "")[:12], 16) / 1000
