"""Replies that open with thoughts, in the way that their template writes them.

Some templates find the thoughts of an earlier reply in its text and leave them out. Others
want them in a field of their own, and refuse or keep the text of a reply that holds both: for
those a reply is taken apart as the template itself would put it together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from openchat_local.models.errors import TemplateError
from openchat_local.models.template.vocabulary import Vocabulary
from openchat_local.models.thoughts import USUAL, ThoughtMarks

FIELDS = ("reasoning_content", "reasoning", "thinking")
_THOUGHT, _ANSWER = "a thought of mine", "an answer of mine"
# What templates and vocabularies are searched for. (Granite's are words of its system prompt.)
KNOWN = (
    USUAL,
    ThoughtMarks("[THINK]", "[/THINK]"),
    ThoughtMarks("<seed:think>", "</seed:think>"),
    ThoughtMarks("◁think▷", "◁/think▷"),
    ThoughtMarks("<|START_THINKING|>", "<|END_THINKING|>"),
    ThoughtMarks("<|begin_of_thought|>", "<|end_of_thought|>"),
    ThoughtMarks("<thinking>", "</thinking>"),
    ThoughtMarks("<reasoning>", "</reasoning>"),
    ThoughtMarks("Here is my thought process:", "Here is my response:"),
)
Write = Callable[[Sequence[Mapping[str, str]], bool], str]


@dataclass(frozen=True, slots=True)
class Thoughts:
    """What a model writes before its thoughts, between them and the answer, and before an
    answer without any. `opened` is what has opened its thoughts for it, or ""."""

    before: str
    between: str
    answer: str
    opened: str

    def split(self, text: str) -> tuple[str | None, str]:
        """The thoughts of a reply (None: it has none) and its answer, both parts of `text`.
        What was cut off in mid-thought has an empty answer."""
        before, between = self.before.strip(), self.between.strip()
        if not before and self.opened and self.opened in text:
            return None, text  # no model's words, but a form that the template finds by itself
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
    has no field for them, does not leave them out later, or finds them in the text by itself."""
    found = _in_a_field(write)
    if found is None:
        return None
    asked, more = {"role": "user", "content": "a"}, {"role": "user", "content": "b"}
    plain = {"role": "assistant", "content": _ANSWER}
    said = {"role": "assistant", "content": found.before + _THOUGHT + found.between + _ANSWER}
    try:
        apart = write([asked, plain | dict.fromkeys(FIELDS, _THOUGHT), more], True)
    except TemplateError:
        return None
    try:
        finds_it = _THOUGHT in apart or _THOUGHT not in write([asked, said, more], True)
    except TemplateError:
        finds_it = False
    return None if finds_it else found


def marks_of(write: Write, source: str, vocabulary: Vocabulary) -> ThoughtMarks | None:
    """The marks of thoughts of the template with this `source`: as it writes them itself, or
    known ones that it looks for or that the vocabulary has; None for a model without."""
    found = _in_a_field(write)
    if found is not None:
        opens, closes = found.before.strip() or found.opened, found.between.strip()
        if opens and not opens[-1].isalnum():
            answer = found.answer.strip()
            return ThoughtMarks(opens, closes, "" if opens in answer else answer)
    return marks_in(source, vocabulary)


def marks_in(source: str, vocabulary: Vocabulary) -> ThoughtMarks | None:
    """Known marks that a template's `source` names, or for which the vocabulary has tokens."""
    for marks in KNOWN:
        if marks.closes in source:
            return marks
    literals = vocabulary.special_literals
    return next((m for m in KNOWN if m.opens in literals and m.closes in literals), None)


def has_field(write: Write) -> bool:
    """Whether the template takes thoughts in a field of their own."""
    return _in_a_field(write) is not None


def _in_a_field(write: Write) -> Thoughts | None:
    """What stands around thoughts that are given in a field of their own; None where the
    template has none, or writes nothing behind them."""
    asked = {"role": "user", "content": "a"}
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
    except (TemplateError, ValueError):
        return None
    if not between.strip():
        return None
    opened = whole[:start].split()[-1:] if not before.strip() else []
    return Thoughts(before, between, answer[_shared(request, answer) :], "".join(opened))


def _shared(request: str, text: str) -> int:
    """How many characters both begin with."""
    pairs = enumerate(zip(request, text, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(request), len(text)))
