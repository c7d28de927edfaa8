"""Which of two answers is better: asked in both orders, since judges favour a place.

The swap of positions, and a tie where the two orders disagree, are those of MT-bench
(arXiv 2306.05685, section 3.4).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

from openchat_local.finetune.evaluation.judging.asking import Choice, Judgement, judge_each
from openchat_local.finetune.evaluation.judging.judge import Judging
from openchat_local.finetune.evaluation.judging.wording import compare_prompt
from openchat_local.models.conversation import Message
from openchat_local.models.engine.protocol import Engine

Verdict = Literal["first", "second", "tie", "both bad"]

_CHOICE = Choice("verdict", ("A", "B", "tie", "both bad"), ("A", "B", "C", "D"))
_STRAIGHT: dict[str, Verdict] = {"A": "first", "B": "second", "tie": "tie", "both bad": "both bad"}
_SWAPPED: dict[str, Verdict] = _STRAIGHT | {"A": "second", "B": "first"}


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to `prompt`, which ends with a user turn; `reference` is a right one, where
    there is one. `index` is the caller's own number for it."""

    index: int
    prompt: tuple[Message, ...]
    first: str
    second: str
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """What the judge makes of the pair `index`.

    `orders` are its two verdicts, already in terms of the pair: with the first answer shown
    first, and shown second. Both alike are the `verdict`; two that differ are a tie. None is no
    verdict, and `error` says why: such a pair is counted, never scored. `why` is the judge's
    reason, from the order in which the first answer was shown first. `preference`, from 0 to
    1, is how likely the judge finds the first answer the better one, a tie counting half: the
    mean of both orders, known where it is asked by likelihood.
    """

    index: int
    verdict: Verdict | None
    orders: tuple[str | None, str | None]
    why: str
    error: str | None
    preference: float | None = None


def judge_pairs(
    engine: Engine,
    pairs: Sequence[Pair],
    *,
    at_once: int = 4,
    judging: Judging | None = None,
) -> Generator[PairVerdict, None, None]:
    """The verdict on every pair, as they are ready, in any order; `at_once` judgements are in
    progress together. Closing the iterator early gives up the rest.

    Nonsense, a judgement that takes too long and a prompt that does not fit are a verdict of
    None with its reason. Raises EngineError where the judge itself cannot go on.
    """
    judging = judging or Judging()
    prompts = [
        compare_prompt(pair.prompt, *answers, pair.reference, judging.by)
        for pair in pairs
        for answers in ((pair.first, pair.second), (pair.second, pair.first))
    ]
    waiting: dict[int, Judgement] = {}
    with closing(judge_each(engine, prompts, _CHOICE, judging, at_once)) as judgements:
        for judgement in judgements:
            other = waiting.pop(judgement.index ^ 1, None)
            if other is None:
                waiting[judgement.index] = judgement
                continue
            straight, swapped = sorted((judgement, other), key=lambda one: one.index)
            yield _verdict(pairs[judgement.index // 2].index, straight, swapped)


def _verdict(index: int, straight: Judgement, swapped: Judgement) -> PairVerdict:
    """Of the two orders; `swapped` saw the second answer as A."""
    first = None if straight.value is None else _STRAIGHT[str(straight.value)]
    second = None if swapped.value is None else _SWAPPED[str(swapped.value)]
    orders = (first, second)
    if first is None or second is None:
        told = [
            f"with the {place} answer shown first, the judgement {one.error}"
            for place, one in (("first", straight), ("second", swapped))
            if one.value is None
        ]
        return PairVerdict(index, None, orders, straight.why, "; ".join(told))
    verdict = first if first == second else "tie"
    preference = None
    if straight.probabilities and swapped.probabilities:
        a, b, *_ = straight.probabilities
        other_a, other_b, *_ = swapped.probabilities
        # With what is neither counting half to each: (1 + a - b) / 2 in one order.
        preference = 0.5 + (a - b + other_b - other_a) / 4
    return PairVerdict(index, verdict, orders, straight.why, None, preference)
