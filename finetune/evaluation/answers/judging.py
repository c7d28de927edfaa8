"""Replies become outcomes: which answer a question got, by how many votes, and if it is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from openchat_local.finetune.evaluation.answers.asking import Replies, Reply
from openchat_local.finetune.evaluation.answers.matching import Answer, Gold, Reader, is_right
from openchat_local.finetune.evaluation.answers.questions import Question

State = Literal["right", "wrong", "no answer"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One reply, the answer that was found in it, and whether that is right."""

    reply: Reply
    answer: Answer | None
    right: bool


@dataclass(frozen=True, slots=True)
class Vote:
    """The `answer` that most samples gave (None: none gave any), how many did, and whether
    another was given as often: then the one that came first."""

    answer: Answer | None
    count: int
    tied: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a question came to with one contender."""

    question: Question
    gold: Gold
    samples: tuple[Sample, ...]
    vote: Vote
    right: bool

    @property
    def state(self) -> State:
        """No answer is not a wrong one."""
        if self.vote.answer is None:
            return "no answer"
        return "right" if self.right else "wrong"

    @property
    def rights(self) -> int:
        """How many samples are right."""
        return sum(sample.right for sample in self.samples)

    @property
    def cuts(self) -> int:
        """How many replies were cut at their longest."""
        return sum(sample.reply.cut for sample in self.samples)


def majority(answers: Sequence[Answer | None]) -> Vote:
    """The answer that most of `answers` say, those without one left out; of several, the one
    that came first (self-consistency: Wang et al., arXiv 2203.11171)."""
    counts: dict[str, int] = {}
    first: dict[str, Answer] = {}
    for answer in answers:
        if answer is not None:
            counts[answer.key] = counts.get(answer.key, 0) + 1
            first.setdefault(answer.key, answer)
    if not counts:
        return Vote(None, 0, False)
    best = max(counts.values())
    winners = [key for key, count in counts.items() if count == best]
    return Vote(first[winners[0]], best, len(winners) > 1)


def judge(
    questions: Sequence[Question],
    golds: Sequence[Gold],
    replies: Replies,
    samples: int,
    reader: Reader,
    on_question: Callable[[], None] = lambda: None,
) -> list[Outcome | None]:
    """What each question came to, None where a reply to it could not be had. Raises TooSlow."""
    outcomes = []
    for question, gold in zip(questions, golds, strict=True):
        outcomes.append(_outcome(question, gold, replies, samples, reader))
        on_question()
    return outcomes


def _outcome(
    question: Question, gold: Gold, replies: Replies, samples: int, reader: Reader
) -> Outcome | None:
    own = [replies[question.digest, n] for n in range(samples)]
    if any(reply.error is not None for reply in own):
        return None
    judged = []
    for reply in own:
        answer = reader.found(reply.text, gold.kind, cut=reply.cut)
        judged.append(Sample(reply, answer, is_right(answer, gold)))
    vote = majority([sample.answer for sample in judged])
    return Outcome(question, gold, tuple(judged), vote, is_right(vote.answer, gold))
