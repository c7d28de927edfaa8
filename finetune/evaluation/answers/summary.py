"""What came out, as figures, tables and sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openchat_local.finetune.evaluation.answers.judging import Outcome
from openchat_local.finetune.evaluation.result import Table
from openchat_local.finetune.evaluation.statistics import Interval, mcnemar, wilson

SIGNIFICANT = 0.05
_EXAMPLES = 4  # of each sort
_SHOWN = 160  # characters of a text


@dataclass(frozen=True, slots=True)
class Score:
    """How one contender did. Counts are of questions, but `cut`, which is of replies.

    `each` is the share of single samples that are right, `any` that of questions where at least
    one sample is, `ties` how many majorities were none. `tokens` is the mean of a reply.
    """

    label: str
    questions: int
    right: int
    wrong: int
    without: int
    cut: int
    each: float
    any: float
    ties: int
    tokens: float

    @property
    def share(self) -> float:
        """Right answers of all questions."""
        return self.right / self.questions

    @property
    def interval(self) -> Interval:
        """Of the share, 95 %."""
        return wilson(self.right, self.questions)


@dataclass(frozen=True, slots=True)
class Change:
    """One contender against the first, on the same questions: how many `both` have right, how
    many each alone; McNemar's p."""

    label: str
    against: str
    questions: int
    both: int
    gained: int
    lost: int

    @property
    def points(self) -> float:
        """Percentage points more than the first."""
        return 100 * (self.gained - self.lost) / self.questions

    @property
    def p(self) -> float:
        return mcnemar(self.gained, self.lost)


def score(label: str, outcomes: Sequence[Outcome]) -> Score:
    """The figures of a contender; there is at least one outcome."""
    states = [outcome.state for outcome in outcomes]
    replies = [sample.reply for outcome in outcomes for sample in outcome.samples]
    return Score(
        label,
        len(outcomes),
        right=states.count("right"),
        wrong=states.count("wrong"),
        without=states.count("no answer"),
        cut=sum(outcome.cuts for outcome in outcomes),
        each=sum(outcome.rights for outcome in outcomes) / len(replies),
        any=sum(outcome.rights > 0 for outcome in outcomes) / len(outcomes),
        ties=sum(outcome.vote.tied for outcome in outcomes),
        tokens=sum(reply.tokens for reply in replies) / len(replies),
    )


def change(
    label: str, outcomes: Sequence[Outcome], against: str, first: Sequence[Outcome]
) -> Change:
    """Both on the same questions, in the same order."""
    pairs = [(new.right, old.right) for new, old in zip(outcomes, first, strict=True)]
    both, gained, lost = map(pairs.count, ((True, True), (True, False), (False, True)))
    return Change(label, against, len(pairs), both, gained, lost)


def score_table(scores: Sequence[Score], samples: int, rule: str, kinds: Sequence[str]) -> Table:
    """One row a contender. `kinds` says of every question what was looked for."""
    several = samples > 1
    columns: tuple[str, ...] = ("", "right", "share", "95 % interval", "wrong", "no answer", "cut")
    columns += (f"any of {samples}", "each", "ties") if several else ()
    rows = []
    for one in scores:
        low, high = one.interval.low, one.interval.high
        row: tuple[str, ...] = (
            one.label, f"{one.right:,} of {one.questions:,}", _percent(one.share),
            f"{100 * low:.1f} – {100 * high:.1f} %", f"{one.wrong:,}", f"{one.without:,}",
            f"{one.cut:,}",
        )  # fmt: skip
        row += (_percent(one.any), _percent(one.each), f"{one.ties:,}") if several else ()
        rows.append((*row, f"{one.tokens:.0f}"))
    looked = ", ".join(f"{count:,} as {kind}" for kind, count in Counter(kinds).most_common())
    how = f"By majority of {samples} samples, a tie by the one that came first. " if several else ""
    return Table(
        "Right answers",
        (*columns, "tokens"),
        rows,
        f"{how}Looked for by --match {rule}: {looked}. No answer: none was found, which is not "
        "right, but no wrong answer either. Cut: replies that reached --max-tokens. Tokens: of a "
        "reply, mean.",
    )


def sentence(change: Change) -> str:
    """What a comparison comes to, in words."""
    n, points = change.questions, change.points
    alone = f"{change.gained:,} that {change.against} has not, {change.lost:,} the other way round"
    if change.gained == change.lost == 0:
        both = f"{change.both:,} of {n:,}"
        return f"{change.label} has the same questions right as {change.against}: {both}."
    if points == 0:
        return f"{change.label} has as many right as {change.against} ({alone}; of {n:,})."
    told = f"{abs(points):.1f} points {'more' if points > 0 else 'less'}"
    verdict = (
        "which is more than chance gives"
        if change.p < SIGNIFICANT
        else "not significant: as much may be chance"
    )
    return (
        f"{change.label} has {told} right than {change.against}, {verdict} (p = {_p(change.p)} by "
        f"McNemar's test on {n:,} questions: {alone})."
    )


def alone(one: Score) -> str:
    """What a single contender came to, in words."""
    low, high = 100 * one.interval.low, 100 * one.interval.high
    return (
        f"{one.label} has {one.right:,} of {one.questions:,} right: {_percent(one.share)}, and "
        f"between {low:.1f} and {high:.1f} % at 95 %."
    )


def examples(labels: Sequence[str], outcomes: Sequence[Sequence[Outcome]]) -> Iterator[Table]:
    """Questions to look at: what each contender gained and lost against the first, else what it
    has right and wrong; and where no answer was found."""
    first = outcomes[0]
    for label, own in zip(labels[1:], outcomes[1:], strict=True):
        pairs = list(zip(own, first, strict=True))
        for title, wanted in (
            (f"Right with {label} alone", (True, False)),
            (f"Right with {labels[0]} alone", (False, True)),
        ):
            chosen = [pair for pair in pairs if (pair[0].right, pair[1].right) == wanted]
            if chosen:
                yield _pair_table(title, (label, labels[0]), chosen)
    for label, own in zip(labels, outcomes, strict=True):
        for state in ("right", "wrong", "no answer"):
            chosen_ones = [one for one in own if one.state == state]
            if chosen_ones and (state == "no answer" or len(labels) == 1):
                shown = min(_EXAMPLES, len(chosen_ones))
                title = f"{label}: {state}, {shown} of {len(chosen_ones):,}"
                yield _state_table(title, chosen_ones)


def facts(one: Score) -> dict[str, Any]:
    """A score as JSON."""
    return {
        "label": one.label,
        "questions": one.questions,
        "right": one.right,
        "share": one.share,
        "interval": [one.interval.low, one.interval.high],
        "wrong": one.wrong,
        "no_answer": one.without,
        "cut_replies": one.cut,
        "share_of_samples": one.each,
        "share_any": one.any,
        "ties": one.ties,
        "mean_tokens": one.tokens,
    }


def change_facts(one: Change) -> dict[str, Any]:
    """A comparison as JSON."""
    return {
        "label": one.label,
        "against": one.against,
        "questions": one.questions,
        "both": one.both,
        "gained": one.gained,
        "lost": one.lost,
        "points": one.points,
        "p": one.p,
    }


def row_of(labels: Sequence[str], own: Sequence[Outcome]) -> Mapping[str, Any]:
    """One question with what every contender said, as JSON."""
    question, gold = own[0].question, own[0].gold
    return {
        "line": question.line,
        "id": question.name,
        "question": question.text,
        "answers": list(question.answers),
        "looked_for": gold.kind,
        "right_answers": [answer.text for answer in gold.answers],
        "contenders": {
            label: {
                "state": outcome.state,
                "answer": None if outcome.vote.answer is None else outcome.vote.answer.text,
                "votes": outcome.vote.count,
                "tied": outcome.vote.tied,
                "replies": [
                    {
                        "text": sample.reply.text,
                        "cut": sample.reply.cut,
                        "tokens": sample.reply.tokens,
                        "answer": None if sample.answer is None else sample.answer.text,
                        "right": sample.right,
                    }
                    for sample in outcome.samples
                ],
            }
            for label, outcome in zip(labels, own, strict=True)
        },
    }


def _pair_table(
    title: str, labels: tuple[str, str], pairs: Sequence[tuple[Outcome, Outcome]]
) -> Table:
    rows = [
        (new.question.name, *_asked(new), _said(new), _said(old)) for new, old in pairs[:_EXAMPLES]
    ]
    return Table(
        f"{title}, {len(rows)} of {len(pairs):,}",
        ("row", "question", "right answer", *labels),
        rows,
    )


def _state_table(title: str, outcomes: Sequence[Outcome]) -> Table:
    rows = [
        (one.question.name, *_asked(one), _said(one), _end(one.samples[0].reply.text))
        for one in outcomes[:_EXAMPLES]
    ]
    columns = ("row", "question", "right answer", "found", "the reply's end")
    return Table(title, columns, rows)


def _asked(outcome: Outcome) -> tuple[str, str]:
    return _end(outcome.question.text), _end(outcome.gold.answers[0].text, 40)


def _said(outcome: Outcome) -> str:
    answer = outcome.vote.answer
    return "(no answer)" if answer is None else _end(answer.text, 60)


def _end(text: str, most: int = _SHOWN) -> str:
    """The end of a text, where questions ask and answers answer, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"…{line[1 - most :]}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1g}"
