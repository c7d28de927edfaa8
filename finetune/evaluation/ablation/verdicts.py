"""What an ablation says, in sentences; also where it disagrees with the paper."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from openchat_local.finetune.evaluation.ablation.figures import Difference
from openchat_local.finetune.evaluation.ablation.outcome import Outcome
from openchat_local.finetune.evaluation.ablation.recipes import (
    BASE,
    C_RLFT,
    CONDITION_ONLY,
    EXPERT_ONLY,
    LABELS,
    SFT_ALL,
)

# arXiv 2309.11235, AlpacaEval at 13B: 80.9, 85.0, 87.1.
_PAPER = (EXPERT_ONLY, CONDITION_ONLY, C_RLFT)


def verdicts(outcome: Outcome) -> list[str]:
    """Which row predicts held-out expert answers best, by how much, how that compares with the
    paper's ladder, and whether the condition is read."""
    return [
        *_best(outcome),
        *_order(outcome),
        *_condition(outcome),
        *_forms(outcome),
        *_sweeps(outcome),
        *_seeds(outcome),
        *_same(outcome),
        *_stopped(outcome),
    ]


def _names(outcome: Outcome) -> list[str]:
    return [name for name, _ in outcome.rows]


def _best(outcome: Outcome) -> Iterator[str]:
    losses = outcome.losses
    trained = _names(outcome)[1:]
    if not trained:
        return
    best = min(trained, key=lambda name: losses.loss(name, 0, 0).value)
    expert = outcome.ablation.data.policy.expert
    found = losses.difference(best, BASE, 0, 0)
    about = f"held-out {expert.name!r} answers under {expert.condition or 'no condition'!r}"
    if found.value >= 0:
        yield (
            f"No row predicts {about} better than the base model does: {LABELS[best]}, the best of "
            f"them, is {_amount(found)} worse."
        )
        return
    yield (
        f"{_capital(LABELS[best])} predicts {about} best, {_amount(found)} below the base"
        f"{'' if found.certain else ', which cannot be told from chance'}."
    )
    rivals = [name for name in trained if name != best]
    against = {name: losses.difference(best, name, 0, 0) for name in rivals}
    ahead = [LABELS[name] for name in rivals if against[name].certain]
    level = [LABELS[name] for name in rivals if not against[name].certain]
    if ahead:
        yield f"It is ahead of {_listed(ahead)}{_and_level(level)}."
    elif level:
        yield f"It cannot be told apart from {_listed(level)}."


def _and_level(level: list[str]) -> str:
    return f"; from {_listed(level)} it cannot be told apart" if level else ""


def _order(outcome: Outcome) -> Iterator[str]:
    """The paper's ladder, rung by rung."""
    there = [name for name in _PAPER if name in _names(outcome)]
    rungs = []
    for lower, upper in pairwise(there):
        found = outcome.losses.difference(upper, lower, 0, 0)
        if found.certain:
            how = "as in the paper" if found.value < 0 else "the other way round from the paper"
        else:
            how = "which cannot be told from chance"
        direction = "below" if found.value < 0 else "above"
        rungs.append(f"{LABELS[upper]} is {_amount(found)} {direction} {LABELS[lower]}, {how}")
    if rungs:
        yield f"The paper's ladder: {'; '.join(rungs)}."
    if {SFT_ALL, C_RLFT} <= set(_names(outcome)):
        found = outcome.losses.difference(C_RLFT, SFT_ALL, 0, 0)
        verb = "gains" if found.value < 0 else "loses"
        doubt = "" if found.certain else ", which cannot be told from chance"
        yield (
            f"Against SFT on all, {LABELS[C_RLFT]} {verb} {_amount(found)} on expert answers"
            f"{doubt}."
        )


def _condition(outcome: Outcome) -> Iterator[str]:
    """Whether another condition makes expert answers less likely."""
    conditions = outcome.conditions
    if len(conditions) < 2:
        yield "All classes have one condition here: what a condition brings cannot be seen."
        return
    last = len(conditions) - 1
    for name in (BASE, SFT_ALL, CONDITION_ONLY, C_RLFT):
        if name not in _names(outcome):
            continue
        found = outcome.losses.of_condition(name, last, 0, 0)
        verb = "more" if found.value > 0 else "less"
        doubt = "" if found.certain else " (not told from chance)"
        yield (
            f"{_capital(LABELS[name])}: under {conditions[last]!r} instead of {conditions[0]!r} "
            f"expert answers cost {_amount(found)} {verb}{doubt}."
        )


def _forms(outcome: Outcome) -> Iterator[str]:
    trained = [name for name in _names(outcome)[1:] if name in outcome.forms]
    if not trained:
        return
    shares = {
        name: sum(one.count for one in outcome.forms[name][0])
        / max(1, sum(one.asked for one in outcome.forms[name][0]))
        for name in trained
    }
    highest = max(shares.values())
    best = [LABELS[name] for name in trained if shares[name] == highest]
    rest = [f"{LABELS[name]} {share:.0%}" for name, share in shares.items() if share < highest]
    yield (
        f"In the expert's form under {outcome.conditions[0]!r}: {_listed(best)} {highest:.0%}"
        f"{', ' if rest else ''}{', '.join(rest)}."
    )


def _sweeps(outcome: Outcome) -> Iterator[str]:
    """Where each line of a sweep is lowest, and from which of its points that can be told."""
    for sweep in outcome.ablation.sweeps:
        for label, line in sweep.series:
            if len(line) < 2:
                continue
            value, best = min(line, key=lambda one: outcome.losses.loss(one[1].name, 0, 0).value)
            told = [
                other
                for other, recipe in line
                if outcome.losses.difference(best.name, recipe.name, 0, 0).certain
            ]
            doubt = f"told apart from {_listed(told)}" if told else "not told apart from the others"
            yield f"{_capital(sweep.x_label)}, {label}: lowest at {value}, {doubt}."


def _seeds(outcome: Outcome) -> Iterator[str]:
    trained = _names(outcome)[1:]
    if not trained:
        return
    if outcome.seeds == 1:
        yield "One seed: how far another seed would lie from this one is not known."
        return
    spread = max(outcome.losses.loss(name, 0, 0).spread for name in trained)
    yield f"Seeds of one row lie up to {spread:.4f} nats a token apart."


def _same(outcome: Outcome) -> Iterator[str]:
    """Rows that are one training, since the data make no difference between them."""
    for recipe in outcome.ablation.rows:
        trained = outcome.ablation.trained[recipe.name]
        if trained.name != recipe.name:
            yield (
                f"{_capital(recipe.label)} and {trained.label} are the same training on these data."
            )


def _stopped(outcome: Outcome) -> Iterator[str]:
    if outcome.stopped:
        yield (
            f"The losses of {_listed(list(outcome.stopped))} were not finite twice: what was "
            "learned before that is measured; a lower --learning-rate may help."
        )


def _amount(found: Difference) -> str:
    low, high = sorted(abs(end) for end in found.interval)
    if high == float("inf"):
        return f"{abs(found.value):.4f} nats a token"
    if found.interval.low < 0 < found.interval.high:
        ends = f"{found.interval.low:+.4f} to {found.interval.high:+.4f}"
        return f"{abs(found.value):.4f} nats a token (95 % {ends})"
    return f"{abs(found.value):.4f} nats a token (95 % {low:.4f} to {high:.4f})"


def _listed(words: list[str]) -> str:
    *some, last = words
    return f"{', '.join(some)} and {last}" if some else last


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
