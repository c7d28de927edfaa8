"""Answers of several contenders as questions to a judge, and their grades put beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from openchat_local.finetune.evaluation.compare.pairs import Answer as Written
from openchat_local.finetune.evaluation.compare.pairs import Dialogue
from openchat_local.finetune.evaluation.compare.prompt_rows import Prompt
from openchat_local.finetune.evaluation.judging.grading import Answer, Grade
from openchat_local.models.conversation import Message


@dataclass(frozen=True, slots=True)
class Turn:
    """What contender number `contender` wrote in turn `turn` (from 0) of a prompt."""

    contender: int
    prompt: Prompt
    turn: int
    answer: Written


@dataclass(frozen=True, slots=True)
class GradedTurn:
    """A turn, and what the judge makes of it."""

    of: Turn
    grade: Grade


def turns_of(prompts: Sequence[Prompt], dialogues: Sequence[Mapping[str, Dialogue]]) -> list[Turn]:
    """Every answer there is, prompt by prompt; `dialogues` has those of each contender by
    `Prompt.digest`."""
    return [
        Turn(contender, prompt, turn, answer)
        for prompt in prompts
        for contender, found in enumerate(dialogues)
        for turn, answer in enumerate(found.get(prompt.digest, ()))
    ]


def questions(turns: Sequence[Turn], dialogues: Sequence[Mapping[str, Dialogue]]) -> list[Answer]:
    """What a judge is asked about each turn, after all that its own contender said before it."""
    return [
        Answer(
            index,
            tuple(_before(turn, dialogues[turn.contender][turn.prompt.digest])),
            turn.answer.text,
            turn.prompt.references[turn.turn] if turn.prompt.references else None,
        )
        for index, turn in enumerate(turns)
    ]


def _before(turn: Turn, dialogue: Dialogue) -> Iterator[Message]:
    yield from turn.prompt.messages
    asked = zip(dialogue[: turn.turn], turn.prompt.follow_ups, strict=False)
    for answer, follow_up in asked:
        yield Message("assistant", answer.text)
        yield Message("user", follow_up)
