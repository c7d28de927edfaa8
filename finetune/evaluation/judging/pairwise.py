"""Which of two answers is better: asked in both orders, since judges favour a place.

The swap of positions, and a tie where the two orders disagree, are those of MT-bench
(arXiv 2306.05685, section 3.4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from openchat_local.finetune.evaluation.judging.judge import Judging
from openchat_local.models.conversation import Message
from openchat_local.models.engine.protocol import Engine

Verdict = Literal["first", "second", "tie", "both bad"]


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
) -> Iterator[PairVerdict]:
    """The verdict on every pair, as they are ready, in any order; `at_once` judgements are in
    progress together. Closing the iterator early gives up the rest.

    Nonsense, a judgement that takes too long and a prompt that does not fit are a verdict of
    None with its reason. Raises EngineError where the judge itself cannot go on.
    """
    raise NotImplementedError
