"""Rows of a question and its answer, whatever these are called: Alpaca, prompt/completion."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from openchat_local.finetune.data.shapes.found import Found
from openchat_local.finetune.data.shapes.row import EMPTY, Row, Turn, short
from openchat_local.finetune.data.shapes.transcripts import as_turns, transcript
from openchat_local.finetune.data.shapes.turns import are_turns, read_turns
from openchat_local.models.conversation import Message

QUESTIONS = ("prompt", "question", "instruction", "query", "input", "user", "human", "problem")
ANSWERS = (
    "completion", "response", "answer", "output", "reply", "assistant", "gpt", "solution",
)  # fmt: skip
_MORE = ("input", "context")  # what an instruction is about


def alpaca(row: Row) -> Found | None:
    """An instruction, what it is about, and its output."""
    if row.value.get("instruction") is None:
        return None
    field = _only(row, [name for name in ANSWERS if _is_there(row, name)], "output")
    if field is None:
        _refuse_several(row, ["instruction"])
        return Found("Alpaca", [])
    question = row.text("instruction")
    more = next((name for name in _MORE if name in row.value), "input")
    extra = row.text(more, required=False)
    asked = f"{question}\n\n{extra}" if extra else question
    turns = [*_history(row), (Message("user", asked or ""), None), *answer(row, field)]
    return Found("Alpaca" if field == "output" else f"Alpaca (instruction, {field})", turns)


def exchange(row: Row) -> Found | None:
    """A question and its answer, each as text or as turns."""
    questions = [name for name in QUESTIONS if _is_there(row, name)]
    answers = [name for name in ANSWERS if _is_there(row, name)]
    if not (questions and answers) and not {"prompt", "completion"} & {*row.value}:
        return None
    asked, given = _only(row, questions, "prompt"), _only(row, answers, "completion")
    if asked is None or given is None:
        _refuse_several(row, questions)
        return Found("prompt/completion", [])
    spelled = "" if (asked, given) == ("prompt", "completion") else f" ({asked}, {given})"
    turns = [*_history(row), *question(row, asked), *answer(row, given)]
    return Found(f"prompt/completion{spelled}", turns)


def _is_there(row: Row, field: str) -> bool:
    return isinstance(row.value.get(field), str | list)


def _only(row: Row, names: list[str], usual: str) -> str | None:
    """The one that is there, or the usual; None where there are several others."""
    return usual if usual in row.value or not names else names[0] if len(names) == 1 else None


def _refuse_several(row: Row, questions: list[str]) -> None:
    answers = [name for name in ANSWERS if _is_there(row, name)]
    several = [
        f"{' or '.join(names)} could be the {what}"
        for what, names in (("question", questions), ("answer", answers))
        if len(names) > 1
    ]
    row.fault(
        "",
        f"has several meanings, since {' and '.join(several)}: say which is meant, as in "
        f"--columns prompt={questions[0]},completion={answers[0]}",
    )


def question_field(row: Row) -> str | None:
    """Where the question stands beside several answers."""
    return next((name for name in QUESTIONS if _is_there(row, name)), None)


def question(row: Row, field: str) -> list[Turn]:
    """What is asked in `field`: text, turns or a transcript, of which nothing is learned."""
    given = row.value.get(field)
    if are_turns(given):
        row.used.add(field)
        return read_turns(row, given, field, context=True)
    text = row.text(field)
    said = transcript(text or "")
    if said and any(role == "assistant" for role, _ in said):
        while said and said[-1][0] == "assistant" and not said[-1][1]:
            said.pop()  # a header at the end, for the answer
        return as_turns(said, context=True)
    return [(Message("user", text or ""), None)]


def answer(row: Row, field: str) -> list[Turn]:
    """What is answered in `field`: text, or turns."""
    row.used.add(field)
    return answer_turns(row, row.value, field)


def answer_turns(row: Row, value: Any, field: str, place: str = "") -> list[Turn]:
    """The same for an object inside the row, which stands at `place`."""
    given = value.get(field)
    if isinstance(given, dict) and are_turns([given]):
        given = [given]
    if are_turns(given):
        return read_turns(row, given, place + field)
    return [row.answer(place + field, row.text_in(value, field, place))]


def _history(row: Row) -> Iterator[Turn]:
    """Earlier turns: pairs of a question and its answer, as Alpaca has them."""
    pairs = row.value.get("history")
    row.used.add("history")
    if pairs in (None, ""):
        return
    if are_turns(pairs):
        yield from read_turns(row, pairs, "history", context=True)
        return
    if not isinstance(pairs, list):
        row.fault("history", "is not a list of pairs", short(pairs))
        return
    for index, pair in enumerate(pairs):
        place = f"history[{index}]"
        if not (
            isinstance(pair, list) and len(pair) == 2 and all(isinstance(t, str) for t in pair)
        ):
            row.fault(place, "is not a pair of a question and its answer", short(pair))
            continue
        asked, answered = pair
        if not answered.strip() and not row.silent():
            row.fault(f"{place}[1]", EMPTY)
        yield Message("user", asked), None
        yield Message("assistant", answered), None
