"""Each answer by itself, with a grade from 1 to 10 (as in MT-bench, arXiv 2306.05685)."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

from openchat_local.finetune.evaluation.judging.asking import Choice, judge_each
from openchat_local.finetune.evaluation.judging.judge import Judging
from openchat_local.finetune.evaluation.judging.wording import grade_prompt
from openchat_local.models.conversation import Message
from openchat_local.models.engine.protocol import Engine

LOWEST, HIGHEST = 1, 10
_GRADES = range(LOWEST, HIGHEST + 1)
_CHOICE = Choice("grade", tuple(_GRADES), tuple(map(str, _GRADES)))


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to `prompt`, which ends with a user turn; `reference` is a right one, where
    there is one. `index` is the caller's own number for it."""

    index: int
    prompt: tuple[Message, ...]
    text: str
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Grade:
    """What the judge makes of the answer `index`: a whole number from 1 to 10, or, by
    likelihood, the expected one, Σ g·p(g). None is no grade, and `error` says why: such an
    answer is counted, never scored. `why` is the judge's reason, "" where it gives none."""

    index: int
    grade: float | None
    why: str
    error: str | None


def grade_all(
    engine: Engine,
    answers: Sequence[Answer],
    *,
    at_once: int = 4,
    judging: Judging | None = None,
) -> Generator[Grade, None, None]:
    """The grade of every answer, as they are ready, in any order; `at_once` judgements are in
    progress together. Closing the iterator early gives up the rest.

    Nonsense, a judgement that takes too long and a prompt that does not fit are a grade of
    None with its reason. Raises EngineError where the judge itself cannot go on.
    """
    judging = judging or Judging()
    prompts = [
        grade_prompt(answer.prompt, answer.text, answer.reference, judging.by) for answer in answers
    ]
    with closing(judge_each(engine, prompts, _CHOICE, judging, at_once)) as judgements:
        for judgement in judgements:
            error = judgement.error and f"the judgement {judgement.error}"
            grade = None if judgement.value is None else float(judgement.value)
            if shares := judgement.probabilities:
                grade = math.fsum(g * share for g, share in zip(_GRADES, shares, strict=True))
            yield Grade(answers[judgement.index].index, grade, judgement.why, error)
