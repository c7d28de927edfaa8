"""What a stored reply thought before it answered, and its answer.

The row of a reply says in `sampling` which marks its model's thoughts have, so that words in an
answer are never taken for a mark. Of replies whose row does not say, imported ones and those of
earlier versions, only what stands at their head in the usual way counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from openchat_local.models.thoughts import USUAL, Divided, ThoughtMarks, divide
from openchat_local.models.units import time_in_words

if TYPE_CHECKING:
    from openchat_local.app.chats.records import StoredMessage
    from openchat_local.models.engine.protocol import Sampling

_KEY = "thoughts"
# Where a template had opened the thoughts, some programs keep their end alone, on its own line.
_END = re.compile(r"^[ \t]*</think>[ \t]*$", re.MULTILINE)


def as_written(sampling: Sampling, marks: ThoughtMarks | None) -> dict[str, Any]:
    """The sampling of a reply's row: how it was drawn, and the marks that its model has."""
    listed = [] if marks is None else [marks.opens, marks.closes, marks.answers]
    return asdict(sampling) | {_KEY: listed}


def marks_of(message: StoredMessage) -> ThoughtMarks | None:
    """The marks of a reply's thoughts; None where nothing in it is one. Rows may come from an
    import."""
    if message.role != "assistant":
        return None
    listed = (message.sampling or {}).get(_KEY)
    if not isinstance(listed, list):
        return USUAL
    if len(listed) != 3 or not all(isinstance(mark, str) for mark in listed):
        return None
    return ThoughtMarks(*listed) if listed[0] and listed[1] else None


def divided(message: StoredMessage) -> Divided:
    """A message's thoughts and its answer; a prompt is all answer."""
    text, marks = message.content, marks_of(message)
    if marks is None or isinstance((message.sampling or {}).get(_KEY), list):
        return divide(text, marks)
    return _divided_text(text)


def answer_of(message: StoredMessage) -> str:
    """What a message says, a reply's thoughts left out; "" of one that broke off in them."""
    return divided(message).answer


def all_without_thoughts(messages: Iterable[StoredMessage]) -> list[StoredMessage]:
    """The messages, their replies without thoughts."""
    told = [(message, answer_of(message)) for message in messages]
    return [
        message if answer == message.content else replace(message, content=answer)
        for message, answer in told
    ]


def without_thoughts(text: str) -> str:
    """A reply of an unknown model without the thoughts that it opens with."""
    return _divided_text(text).answer


def _divided_text(text: str) -> Divided:
    found = divide(text, USUAL)
    if found.thought is not None or USUAL.closes not in text:
        return found
    end = _END.search(text)
    if end is None or USUAL.opens in text[: end.start()]:
        return found
    answer = text[end.end() :].lstrip()
    return Divided(text[: end.start()].strip(), answer, True, len(text) - len(answer))


def thoughts_in_words(usage: dict[str, Any] | None, *, closed: bool = True) -> str:
    """ "thought for 12 s, 640 tokens", as far as a reply's figures, which may come from an import,
    tell; and where it was not `closed`, that it broke off."""
    figures = [(usage or {}).get(name) for name in ("reasoning_seconds", "reasoning_tokens")]
    seconds, tokens = (
        figure if isinstance(figure, int | float) and figure > 0 else 0 for figure in figures
    )
    words = "thought" if closed else "broke off while thinking"
    if seconds >= 1:
        words += f"{' for' if closed else ', after'} {time_in_words(seconds)}"
    return f"{words}, {tokens_in_words(int(tokens))}" if tokens else words


def tokens_in_words(tokens: int) -> str:
    return f"{tokens:,} token{'' if tokens == 1 else 's'}"
