"""The rows that tests of multiple choice come as, and the question in each.

What a row is worded as for a bare model (`Question.contexts`) follows the task files of
lm-evaluation-harness 0.4.13, so that figures can be laid beside published ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from openchat_local.finetune.evaluation.choice.labels import LabelFault, right_options
from openchat_local.finetune.evaluation.choice.question import (
    MOST_OPTIONS,
    Question,
    are_letters,
    letters,
    listed,
)

_IDS = ("id", "question_id", "qID")
_BLANK = "_"
Row = Mapping[str, Any]


class RowFault(Exception):
    """Why a row is no question: the `field` at fault, what is wrong, and what is particular."""

    def __init__(self, field: str, kind: str, detail: str = "") -> None:
        self.field, self.kind, self.detail = field, kind, detail
        super().__init__(f"{field}: {kind} ({detail})")


@dataclass(frozen=True, slots=True)
class Format:
    """`name` is whose rows they are; a row with all of `fields` is one of them, and `read`
    makes its question, given the line. It raises RowFault."""

    name: str
    fields: tuple[str, ...]
    read: Callable[[Row, int], Question]


def format_of(row: Row) -> Format | None:
    """The format of `row`; None if it has none that is known."""
    for format in FORMATS:
        if all(field in row for field in format.fields):
            return format
    return None


def known_formats() -> str:
    """In words, what a row may have."""
    return "; ".join(f"{', '.join(format.fields)} ({format.name})" for format in FORMATS)


def _options_row(row: Row, line: int) -> Question:
    question, options = _text(row, "question"), _options(row["options"], "options")
    right = _right(row["label"], options, "label")
    if are_letters(options):  # their texts are in the question
        return _question(row, line, options, options, right, question, options, question)
    _refuse_many(options, "options")
    names = letters(len(options))
    asked = listed(question, options, names)
    return _question(row, line, options, names, right, question, options, asked)


def _mmlu_row(row: Row, line: int) -> Question:
    options = _options(row["choices"], "choices")
    _refuse_many(options, "choices")
    names = letters(len(options))
    # A letter is an option's place here, whatever the options say.
    right = _right(row["answer"], names, "answer")
    asked = listed(_text(row, "question").strip(), options, names)
    subject = row.get("subject")
    if isinstance(subject, str) and subject.strip():
        about = subject.replace("_", " ").strip()
        before = f"The following are multiple choice questions (with answers) about {about}."
        asked = f"{before}\n\n{asked}"
    return _question(row, line, options, names, right, asked, names, asked)


def _arc_row(row: Row, line: int) -> Question:
    choices = row["choices"]
    if not isinstance(choices, Mapping) or not {"text", "label"} <= choices.keys():
        raise RowFault("choices", "is no object with text and label")
    options = _options(choices["text"], "choices.text")
    names = _options(choices["label"], "choices.label")
    if len(names) != len(options):
        raise RowFault("choices", "does not have as many texts as labels")
    key = str(row["answerKey"]).strip()
    if key not in names:
        raise RowFault("answerKey", "is not among the labels of the choices", repr(key)[:80])
    context = f"Question: {_text(row, 'question')}\nAnswer:"
    right = (names.index(key),)
    if not are_letters(names):
        _refuse_many(options, "choices.text")
        names = letters(len(options))
    asked = listed(_text(row, "question"), options, names)
    return _question(row, line, options, names, right, context, options, asked)


def _hellaswag_row(row: Row, line: int) -> Question:
    options = _options(row["endings"], "endings")
    _refuse_many(options, "endings")
    endings = tuple(_without_marks(option) for option in options)
    if not all(ending.strip() for ending in endings):
        raise RowFault("endings", "has an ending without text")
    if "ctx_a" in row and "ctx_b" in row:
        begun = f"{_text(row, 'ctx_a', '')} {_text(row, 'ctx_b', '').capitalize()}"
    else:
        begun = _text(row, "ctx")
    activity = _text(row, "activity_label", "")
    context = _without_marks(f"{activity}: {begun}" if activity else begun)
    if not context:
        raise RowFault("ctx", "is empty")
    names = letters(len(options))
    right = _right(row["label"], names, "label")
    asked = listed(f"{context}\nWhat comes next?", endings, names)
    return _question(row, line, endings, names, right, context, endings, asked)


def _winogrande_row(row: Row, line: int) -> Question:
    sentence = _text(row, "sentence")
    options = _options([row["option1"], row["option2"]], "option1, option2")
    before, blank, after = sentence.partition(_BLANK)
    if not blank:
        raise RowFault("sentence", 'has no "_" for an option to stand in')
    if not after.strip():
        raise RowFault("sentence", 'has nothing after its "_" to be judged by')
    answer = str(row["answer"]).strip()
    if answer not in ("1", "2"):
        raise RowFault("answer", "is neither 1 nor 2", repr(answer)[:80])
    names = letters(2)
    asked = listed(f'{sentence}\nWhat belongs in the place of "_"?', options, names)
    # The options stand in the context; what follows them is the same, and is judged.
    return Question(
        line, _id(row), options, names, (int(answer) - 1,),
        tuple(before + option for option in options), (after.strip(),) * 2, asked,
    )  # fmt: skip


FORMATS = (
    Format("Winogrande", ("sentence", "option1", "option2", "answer"), _winogrande_row),
    Format("HellaSwag", ("endings", "label"), _hellaswag_row),
    Format("ARC", ("question", "choices", "answerKey"), _arc_row),
    Format("MMLU", ("question", "choices", "answer"), _mmlu_row),
    Format("AGIEval, BBH, TruthfulQA", ("question", "options", "label"), _options_row),
)


def _question(
    row: Row,
    line: int,
    options: tuple[str, ...],
    names: tuple[str, ...],
    right: tuple[int, ...],
    context: str,
    continuations: tuple[str, ...],
    asked: str,
) -> Question:
    contexts = (context,) * len(options)
    return Question(line, _id(row), options, names, right, contexts, continuations, asked)


def _id(row: Row) -> str | None:
    return next((str(row[name]) for name in _IDS if row.get(name) not in (None, "")), None)


def _text(row: Row, field: str, otherwise: str | None = None) -> str:
    value = row.get(field, otherwise)
    if not isinstance(value, str):
        raise RowFault(field, "is not text" if field in row else "is missing")
    if otherwise is None and not value.strip():
        raise RowFault(field, "is empty")
    return value


def _options(value: object, field: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise RowFault(field, "has no options")
    if not all(isinstance(option, str | int | float) for option in value):
        raise RowFault(field, "has an option that is not text")
    options = tuple(str(option) for option in value)
    if len(options) < 2:
        raise RowFault(field, "has one option alone: there is nothing to choose")
    known: dict[str, int] = {}
    for number, option in enumerate(options, 1):
        if not option.strip():
            raise RowFault(field, "has an option without text", f"number {number}")
        first = known.setdefault(option.strip(), number)
        if first != number:
            raise RowFault(field, "has two options that are equal", f"numbers {first} and {number}")
    return options


def _refuse_many(options: tuple[str, ...], field: str) -> None:
    if len(options) > MOST_OPTIONS:
        raise RowFault(field, f"has more than {MOST_OPTIONS} options", str(len(options)))


def _right(label: object, options: tuple[str, ...], field: str) -> tuple[int, ...]:
    try:
        return right_options(label, options)
    except LabelFault as fault:
        raise RowFault(field, fault.kind, fault.detail) from fault


def _without_marks(text: str) -> str:
    """HellaSwag's texts have marks of WikiHow in them: [header], [title], [step]."""
    text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ")
