"""How a reply ended, in the words that every face of the program uses for it."""

from __future__ import annotations

_WORDS = {
    "cancelled": "cancelled",
    "length": "ended at the token limit",
    "engine died": "the engine ended here",
    "interrupted": "the program ended here",
    "refused": "not answered",
    "not saved": "the end of this reply is not saved",
}


def ending_in_words(finish_reason: str | None) -> str:
    """Why a reply ended; "" if it did so by itself."""
    return _WORDS.get(finish_reason or "", "")
