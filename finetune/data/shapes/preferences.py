"""Several answers to one question: the better beside the worse, or each with its scores."""

from __future__ import annotations

from typing import Any

from openchat_local.finetune.data.shapes.answers import answer_turns, question, question_field
from openchat_local.finetune.data.shapes.found import Found
from openchat_local.finetune.data.shapes.row import Row, Turn
from openchat_local.finetune.data.shapes.transcripts import as_turns, transcript
from openchat_local.finetune.data.shapes.turns import are_turns, read_turns

CHOSEN, REJECTED = "chosen", "rejected"
SIDES = (CHOSEN, REJECTED)
_ANSWERED = ("response", "completion", "text", "content", "answer", "output")


def is_preference(row: Row) -> bool:
    """Whether a better and a worse answer are there."""
    return all(row.value.get(side) is not None for side in SIDES)


def preference(row: Row) -> list[Found]:
    """The better answer and the worse, each as a conversation. What both begin with is context."""
    asked = question_field(row)
    before = question(row, asked) if asked else []
    both = [_side(row, side, before) for side in SIDES]
    if not row.faults and any(not turns or turns[0][0].role == "assistant" for turns in both):
        row.fault(CHOSEN, "answers nothing: there is no prompt, and no turn of a user before it")
    shared = _shared(*both)
    name = f"preference pairs ({', '.join([*([asked] if asked else []), *SIDES])})"
    return [
        Found(name, [*_as_context(turns[:shared]), *turns[shared:]], side=side)
        for side, turns in zip(SIDES, both, strict=True)
    ]


def _side(row: Row, side: str, before: list[Turn]) -> list[Turn]:
    """A whole conversation that ends with the answer of one side."""
    row.used.add(side)
    given = row.value[side]
    if are_turns(given):
        turns = read_turns(row, given, side)
    elif not before and isinstance(given, str) and (said := transcript(given)):
        turns = as_turns(said, context=False)
    else:
        return [*before, *answer_turns(row, row.value, side)]
    spoken = [message for message, _ in turns]
    told = [message for message, _ in before]
    return turns if spoken[: len(told)] == told else [*before, *turns]


def _shared(chosen: list[Turn], rejected: list[Turn]) -> int:
    """How many turns both begin with, without the last of either."""
    most = min(len(chosen), len(rejected)) - 1
    pairs = zip(chosen[: max(most, 0)], rejected, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a[0] != b[0]), max(most, 0))


def _as_context(turns: list[Turn]) -> list[Turn]:
    return [
        (message, 0.0 if message.role == "assistant" and weight is None else weight)
        for message, weight in turns
    ]


def is_completions(row: Row) -> bool:
    """Whether a question is there with a list of answers to it (UltraFeedback)."""
    listed = row.value.get("completions")
    return (
        isinstance(listed, list)
        and bool(listed)
        and all(isinstance(one, dict) and _answer_field(one) for one in listed)
    )


def completions(row: Row) -> list[Found]:
    """Every answer as a conversation, with the fields that are its own."""
    row.used.add("completions")
    asked = question_field(row)
    if asked is None:
        row.fault("prompt", "is missing, and completions answer it")
    before = question(row, asked) if asked else []
    for one in row.value["completions"]:
        row.ignored |= {f"completions[].{name}": None for name in one if name not in _ANSWERED}
    return [
        Found(
            "several answers a row (completions)",
            [*before, *answer_turns(row, one, _answer_field(one), f"completions[{n}].")],
            one,
        )
        for n, one in enumerate(row.value["completions"])
    ]


def _answer_field(value: dict[str, Any]) -> str:
    return next((name for name in _ANSWERED if isinstance(value.get(name), str)), "")
