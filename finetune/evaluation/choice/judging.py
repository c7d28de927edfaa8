"""Which option a model chose, and what that makes of a set: shares, intervals, changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from openchat_local.finetune.evaluation.choice.measuring import Finding, first_letter
from openchat_local.finetune.evaluation.choice.question import Question
from openchat_local.finetune.evaluation.statistics import Interval, mcnemar, wilson


@dataclass(frozen=True, slots=True)
class Choice:
    """The options that were chosen: by likelihood, and by likelihood a character. By answer both
    are the letter's, None where there was none."""

    pick: int | None
    pick_norm: int | None


def choice_of(question: Question, finding: Finding) -> Choice:
    """What was chosen, given what was found.

    By likelihood as lm-evaluation-harness 0.4.13 defines `acc` and `acc_norm` (lm_eval.api.task,
    `process_results` of multiple choice): the option with the highest sum of log-probabilities, and
    with the highest after division by the characters of its text; the first of equals.
    """
    if "reply" in finding:
        letter = first_letter(finding["reply"], question.letters)
        return Choice(letter, letter)
    likelihoods = np.asarray(finding["log_likelihoods"], np.float64)
    lengths = np.array([len(text) for text in question.continuations], np.float64)
    return Choice(int(np.argmax(likelihoods)), int(np.argmax(likelihoods / lengths)))


@dataclass(frozen=True, slots=True)
class Share:
    """`right` of `count` questions."""

    right: int
    count: int

    @property
    def value(self) -> float:
        """From 0 to 1; 0 of none."""
        return self.right / self.count if self.count else 0.0

    @property
    def interval(self) -> Interval:
        """Wilson's, at 95 %."""
        return wilson(self.right, self.count)

    def against(self, chance: float) -> str:
        """Whether it can be told from `chance`: "above", "below" or "at"."""
        low, high = self.interval
        return "above" if low > chance else "below" if high < chance else "at"


@dataclass(frozen=True, slots=True)
class Change:
    """A contender against the base on the same questions: `lost` are those that the base alone
    answered rightly, `won` those that the contender alone did."""

    lost: int
    won: int
    count: int

    @property
    def points(self) -> float:
        """By how many percentage points the share rose."""
        return 100 * (self.won - self.lost) / self.count if self.count else 0.0

    @property
    def p(self) -> float:
        """McNemar's exact two-sided p."""
        return mcnemar(self.lost, self.won)


@dataclass(frozen=True, slots=True)
class Standing:
    """How one contender did on one set. `change` and `change_norm` are against the base, None of
    the base itself. `unread` counts answers without a letter; they are wrong."""

    set_name: str
    contender: str
    chance: float
    acc: Share
    acc_norm: Share
    change: Change | None
    change_norm: Change | None
    unread: int


@dataclass(frozen=True, slots=True)
class Judged:
    """A set's questions that all contenders could be asked, and by contender what each chose."""

    name: str
    questions: Sequence[Question]
    choices: Mapping[str, Sequence[Choice]]

    @property
    def chance(self) -> float:
        """The share that guessing gets, on average."""
        return float(np.mean([question.chance for question in self.questions] or [0.0]))


def standings(judged: Judged, base: str | None) -> list[Standing]:
    """How each contender did, in order; the change of each against `base`, if there is one."""
    known = {
        label: (
            _right(judged.questions, [one.pick for one in choices]),
            _right(judged.questions, [one.pick_norm for one in choices]),
        )
        for label, choices in judged.choices.items()
    }
    found = []
    for label, (right, right_norm) in known.items():
        change = change_norm = None
        if base is not None and label != base:
            change = _change(known[base][0], right)
            change_norm = _change(known[base][1], right_norm)
        found.append(
            Standing(
                judged.name,
                label,
                judged.chance,
                Share(int(right.sum()), len(right)),
                Share(int(right_norm.sum()), len(right)),
                change,
                change_norm,
                sum(one.pick is None for one in judged.choices[label]),
            )
        )
    return found


def pooled(sets: Sequence[Judged], name: str) -> Judged:
    """All questions of all sets as one."""
    labels = sets[0].choices if sets else {}
    return Judged(
        name,
        [question for one in sets for question in one.questions],
        {label: [choice for one in sets for choice in one.choices[label]] for label in labels},
    )


def _right(questions: Sequence[Question], picks: Sequence[int | None]) -> np.ndarray:
    """(questions,) bool."""
    return np.array(
        [pick in question.right for question, pick in zip(questions, picks, strict=True)], np.bool_
    )


def _change(base: np.ndarray, other: np.ndarray) -> Change:
    return Change(int((base & ~other).sum()), int((~base & other).sum()), len(base))
