"""Conversations written out as one text: "Human: … Assistant: …"."""

from __future__ import annotations

import re

from openchat_local.finetune.data.shapes.roles import speaker_of
from openchat_local.finetune.data.shapes.row import Turn
from openchat_local.models.conversation import Message

# Anthropic's with empty lines before, OpenAssistant Guanaco's with ### anywhere.
_HEADERS = (
    re.compile(r"(?:\A\s*|\n\n)(Human|Assistant|System|User):[ \n]?"),
    re.compile(r"(?:\A\s*|\n{0,2})### (Human|Assistant|System|User):[ \n]?"),
)


def transcript(text: str) -> list[tuple[str, str]] | None:
    """The turns of a text as role and content, None where it does not begin with one's header.

    A last turn of the assistant may be empty: its answer stands elsewhere then.
    """
    for header in _HEADERS:
        first = header.match(text)
        if first is None:
            continue
        marks = [*header.finditer(text)]
        ends = [*(mark.start() for mark in marks[1:]), len(text)]
        return [
            (str(speaker_of(mark[1])), text[mark.end() : end].strip())
            for mark, end in zip(marks, ends, strict=True)
        ]
    return None


def as_turns(said: list[tuple[str, str]], *, context: bool) -> list[Turn]:
    """The same as messages; with `context`, replies that are not learned."""
    turns: list[Turn] = []
    for role, text in said:
        if role == "system":
            turns.append((Message("system", text), None))
        elif role == "user":
            turns.append((Message("user", text), None))
        else:
            turns.append((Message("assistant", text), 0.0 if context else None))
    return turns
