"""What figures of conditions mean, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from openchat_local.finetune.evaluation.conditions.figures import (
    Difference,
    Seen,
    Spread,
    further_apart,
)
from openchat_local.finetune.evaluation.losses.answers import Answers
from openchat_local.finetune.evaluation.losses.figures import Change, change_between
from openchat_local.finetune.evaluation.statistics import Interval

SCALE = "1 is far apart, 0 not at all, less is mixed"


def named(condition: str) -> str:
    """A condition in a sentence."""
    return repr(condition) if condition else "no condition"


def condition_sentences(
    answers: Answers, all_seen: Sequence[Seen], found: Mapping[str, Sequence[Difference]]
) -> Iterator[str]:
    """What the best condition of each contender brings against its worst; `found` by label."""
    base, *others = all_seen
    if len(answers.conditions) == 1:
        yield (
            f"All answers are read under {named(answers.conditions[0])}: there is nothing to "
            "compare it with; --condition TEXT adds another one."
        )
        return
    for seen in others or [base]:
        if len(seen.conditions) == 1:
            yield (
                f"{seen.label} was trained under {named(seen.conditions[0])} alone, so that other "
                "conditions mean nothing to it."
            )
            continue
        best, worst = seen.conditions[0], seen.conditions[-1]
        yield _loss_sentence(answers, seen, None if seen.is_base else base, best, worst)
        yield _difference_sentence(seen, None if seen.is_base else base, best, worst, found)


def _loss_sentence(answers: Answers, seen: Seen, base: Seen | None, best: str, worst: str) -> str:
    change = _under(answers, seen, best, worst)
    conversations = int((answers.classes == answers.classes.min()).sum())
    about = f"{answers.policy.classes[int(answers.classes.min())].name} answers"
    size = f"{abs(change.change):.4f} nats a token"
    if change.interval is None:
        return (
            f"{seen.label} predicts the one conversation with {about} {_better(change)} under "
            f"{named(best)} than under {named(worst)}, by {size}, which says nothing of others."
        )
    told = f"{seen.label} predicts {about} {_better(change)} under"
    if not change.is_told_from_chance:
        told = f"No difference that can be told from chance: {told}"
    told += (
        f" {named(best)} than under {named(worst)} by {size} ({_interval(change.interval)}, "
        f"{conversations:,} conversations)"
    )
    if base is None:
        return f"{told}."
    other = _under(answers, base, best, worst)
    return f"{told}; the base predicts them {_better(other)} by {abs(other.change):.4f}."


def _better(change: Change) -> str:
    return "better" if change.change < 0 else "worse"


def _under(answers: Answers, seen: Seen, best: str, worst: str) -> Change:
    """What changes from `worst` to `best` for the best class of which there are answers."""
    own = answers.classes == answers.classes.min()
    nats = seen.readings.nats
    tokens = answers.tokens[best][own].astype(np.float64)
    return change_between(seen.label, nats[worst][own], nats[best][own], tokens)


def _difference_sentence(
    seen: Seen,
    base: Seen | None,
    best: str,
    worst: str,
    found: Mapping[str, Sequence[Difference]],
) -> str:
    def range_of(label: str) -> str:
        one = next(
            one for one in found[label] if one.class_name is None and set(one.pair) == {best, worst}
        )
        return f"{one.mean.shannon:.4f} to {one.mean.shannon_most:.4f}"

    against = "" if base is None else f"; of the base, {range_of(base.label)}"
    return (
        f"Between the two, what {seen.label} expects next differs by a Jensen-Shannon divergence "
        f"of {range_of(seen.label)} nats a token, of {math.log(2):.4f} that are possible{against}."
    )


def spread_sentences(answers: Answers, spreads: Mapping[str, Sequence[Spread]]) -> Iterator[str]:
    """Whether classes lie further apart than in the base, the first of `spreads`, which are by
    what stands before the answers."""
    if len(set(answers.classes.tolist())) < 2:
        yield "All answers are of one class, so that there is no distance between classes."
        return
    if len(answers.classes) < 3:
        yield "Fewer than three answers have no distance between classes that says anything."
        return
    for under, (base, *others) in spreads.items():
        if base.apart is None:
            continue
        start = under[0].upper() + under[1:]
        if not others:
            yield (
                f"{start}, the classes have a silhouette of {base.apart.mean:.3f} in the base "
                f"({SCALE})."
            )
        for other in others:
            change = further_apart(base, other)
            if change is not None and other.apart is not None:
                more, interval = change
                yield (
                    f"{start}, the classes lie {_compared(more, interval)} in the base with "
                    f"{other.label}: silhouette {other.apart.mean:.3f} against "
                    f"{base.apart.mean:.3f} ({SCALE}); difference {more:+.3f} "
                    f"({_interval(interval, '{:+.3f}')})."
                )


def _compared(more: float, interval: Interval) -> str:
    if interval.low <= 0 <= interval.high:
        return "as far apart, as far as can be told from chance, as"
    return "further apart than" if more > 0 else "closer together than"


def _interval(interval: Interval, form: str = "{:+.4f}") -> str:
    low, high = form.format(interval.low), form.format(interval.high)
    return f"95 % interval {low} to {high}"
