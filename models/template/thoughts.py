"""Replies that open with thoughts, in the way that their template writes them.

Some templates find the thoughts of an earlier reply in its text and leave them out. Others
want them in a field of their own, and refuse or keep the text of a reply that holds both: for
those a reply is taken apart as the template itself would put it together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from openchat_local.models.errors import TemplateError

FIELDS = ("reasoning_content", "reasoning", "thinking")
_THOUGHT, _ANSWER = "a thought of mine", "an answer of mine"
Write = Callable[[Sequence[Mapping[str, str]], bool], str]


@dataclass(frozen=True, slots=True)
class Thoughts:
    """What a model writes before its thoughts, between them and the answer, and before an
    answer without any."""

    before: str
    between: str
    answer: str

    def split(self, text: str) -> tuple[str | None, str]:
        """The thoughts of a reply (None: it has none) and its answer, both parts of `text`.
        What was cut off in mid-thought has an empty answer."""
        before, between = self.before.strip(), self.between.strip()
        opens = bool(before) and text.lstrip().startswith(before)
        at = text.find(between)
        if at < 0 and not opens:
            answer = self.answer.strip()
            begins = bool(answer) and text.lstrip().startswith(answer)
            return None, text.lstrip().removeprefix(answer) if begins else text
        end = at if at >= 0 else len(text)
        thought = text[:end]
        thought = thought.lstrip().removeprefix(before) if opens else thought
        return thought.strip(), text[end + len(between) :].lstrip() if at >= 0 else text[:0]


def thoughts_of(write: Write) -> Thoughts | None:
    """How the template behind `write(messages, generate)` has a reply with thoughts; None if it
    has no field for them, or finds them in the text by itself."""
    asked, more = {"role": "user", "content": "a"}, {"role": "user", "content": "b"}
    plain = {"role": "assistant", "content": _ANSWER}
    try:
        request = write([asked], True)
        whole = write([asked, plain | dict.fromkeys(FIELDS, _THOUGHT)], False)
        start = whole.find(_THOUGHT)
        end = whole.find(_ANSWER, start)
        if min(start, end) < 0:
            return None
        before = whole[_shared(request, whole[:start]) : start]
        between = whole[start + len(_THOUGHT) : end]
        short = write([asked, plain], False)
        answer = short[: short.index(_ANSWER)]
        found = Thoughts(before, between, answer[_shared(request, answer) :])
        apart = write([asked, plain | dict.fromkeys(FIELDS, _THOUGHT), more], True)
    except (TemplateError, ValueError):
        return None
    if not between.strip():
        return None
    said = {"role": "assistant", "content": before + _THOUGHT + between + _ANSWER}
    try:
        return None if write([asked, said, more], True) == apart else found
    except TemplateError:
        return found


def _shared(request: str, text: str) -> int:
    """How many characters both begin with."""
    pairs = enumerate(zip(request, text, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(request), len(text)))
