"""Pairs that a model judges: each in both orders, each verdict kept when it is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from openchat_local.finetune.evaluation.asking import AT_ONCE
from openchat_local.finetune.evaluation.compare.ballot import Ballot
from openchat_local.finetune.evaluation.compare.figures import Judged
from openchat_local.finetune.evaluation.compare.pairs import Dialogue, Pair
from openchat_local.finetune.evaluation.judging import pairwise
from openchat_local.finetune.evaluation.judging.judge import Judging
from openchat_local.finetune.evaluation.rows import RowFile
from openchat_local.models.engine.protocol import Engine

_VERDICTS = (None, "first", "second", "tie", "both bad")


def judged_by_vote(pairs: Sequence[Pair], ballot: Ballot) -> list[Judged]:
    """Those of `pairs` that a person has voted on, and those where there is nothing to choose."""
    votes = ((pair, ballot.vote_on(pair)) for pair in pairs)
    return [Judged(pair, pair.outcome(vote)) for pair, vote in votes if vote is not None]


def judge_with(
    engine: Callable[[], Engine],
    pairs: Sequence[Pair],
    kept: RowFile,
    judging: Judging,
    *,
    at_once: int = AT_ONCE,
    on_verdicts: Callable[[int], None] = lambda _: None,
) -> list[Judged]:
    """What the judge makes of every pair, in their order; equal answers are a tie unasked.

    `kept` has the verdicts that are there already and gets those that come, judgements that
    came to nothing among them; `engine` is only called for where some are missing. Raises
    EngineError or RowsUnwritten; what had come until then is kept.
    """
    known = {row["pair"]: row for row in kept.rows() if _is_whole(row)}
    missing = [pair for pair in pairs if pair.digest not in known and not pair.same]
    done = len(pairs) - len(missing)
    on_verdicts(done)
    asked = [_as_asked(index, pair) for index, pair in enumerate(missing)]
    verdicts = (
        pairwise.judge_pairs(engine(), asked, at_once=at_once, judging=judging) if asked else ()
    )
    for verdict in verdicts:
        digest = missing[verdict.index].digest
        known[digest] = {
            "pair": digest,
            "verdict": verdict.verdict,
            "orders": verdict.orders,
            "why": verdict.why,
            "error": verdict.error,
            "preference": verdict.preference,
        }
        kept.append(known[digest])
        done += 1
        on_verdicts(done)
    return [_judged(pair, known.get(pair.digest)) for pair in pairs]


def _as_asked(index: int, pair: Pair) -> pairwise.Pair:
    first, second = (_as_text(pair, dialogue) for dialogue in (pair.first, pair.second))
    references = pair.prompt.references
    reference = None
    if any(references):
        turns = enumerate(references, 1)
        several = len(references) > 1
        reference = "\n\n".join(f"{number}. {text}" if several else text for number, text in turns)
    return pairwise.Pair(index, pair.prompt.messages, first, second, reference)


def _as_text(pair: Pair, dialogue: Dialogue) -> str:
    """All that one side said, and what it was asked in between."""
    said = dialogue[0].text
    for follow_up, answer in zip(pair.prompt.follow_ups, dialogue[1:], strict=True):
        said += f"\n\n[The user then asks]\n{follow_up}\n\n[The answer to that]\n{answer.text}"
    return said


def _judged(pair: Pair, row: Mapping[str, Any] | None) -> Judged:
    if row is None:
        return Judged(pair, "tie")
    verdict = row["verdict"]
    outcome = None if verdict is None else pair.outcome(verdict)
    first = row.get("preference")
    preference = 1 - first if pair.swapped and first is not None else first
    return Judged(pair, outcome, row["why"], row["error"], tuple(row["orders"]), preference)


def _is_whole(row: Mapping[str, Any]) -> bool:
    return (
        isinstance(row.get("pair"), str)
        and row.get("verdict", "") in _VERDICTS
        and isinstance(row.get("orders"), list)
        and isinstance(row.get("why"), str)
        and "error" in row
    )
