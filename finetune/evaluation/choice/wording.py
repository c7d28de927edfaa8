"""What the figures say, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from openchat_local.finetune.evaluation.choice.judging import Change, Standing

SIGNIFICANT = 0.05
_MOST = 8  # sets that get a sentence each


def sentences(sets: Sequence[Standing], whole: Sequence[Standing]) -> list[str]:
    """What was forgotten or learned, by contender and set; of the base alone, what it knows.

    `sets` are the standings of all contenders on each set, `whole` those on all questions.
    """
    changed = [one for one in sets if one.change is not None]
    if not changed:
        return [*_levels([*sets, *(one for one in whole if len(sets) > len(whole))])]
    several = len({one.contender for one in changed}) > 1
    told: list[str] = []
    for label in dict.fromkeys(one.contender for one in changed):
        own = [one for one in changed if one.contender == label]
        told += _changes(own, f"{label}: " if several else "")
        if len(own) > 1:
            told += [
                _change(one.change, f"{label}: " if several else "", "all sets together")
                for one in whole
                if one.contender == label and one.change is not None
            ]
    return told


def _changes(standings: Sequence[Standing], before: str) -> Iterator[str]:
    quiet = 0
    for one in standings:
        assert one.change is not None
        if len(standings) > _MOST and one.change.p >= SIGNIFICANT:
            quiet += 1
            continue
        yield _change(one.change, before, one.set_name)
    if quiet:
        yield f"{before}{quiet} other sets changed by no more than chance explains."


def _change(change: Change, before: str, name: str) -> str:
    """ "sat-en fell by 3.1 points, not significant on 206 questions (12 lost, 6 won, p = 0.24)."

    Significance is that of a paired test: the questions that both got right say nothing.
    """
    questions = f"{change.count:,} question{'' if change.count == 1 else 's'}"
    counts = f"{change.lost:,} lost, {change.won:,} won"
    if change.lost == change.won:
        return f"{before}{name} stayed as it was on {questions} ({counts})."
    verb = "fell" if change.points < 0 else "rose"
    significant = "significant" if change.p < SIGNIFICANT else "not significant"
    return (
        f"{before}{name} {verb} by {abs(change.points):.1f} points, {significant} on {questions} "
        f"({counts}, {p_in_words(change.p)})."
    )


def _levels(standings: Sequence[Standing]) -> Iterator[str]:
    for word, meaning in (
        ("above", "is better than guessing on"),
        ("at", "cannot be told from guessing on"),
        ("below", "is worse than guessing on"),
    ):
        for label in dict.fromkeys(one.contender for one in standings):
            names = [
                one.set_name
                for one in standings
                if one.contender == label and one.acc.against(one.chance) == word
            ]
            if names:
                yield f"{label} {meaning} {', '.join(names)}."


def p_in_words(p: float) -> str:
    """ "p = 0.031", "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"
