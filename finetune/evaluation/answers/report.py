"""Outcomes become a result: the questions that all contenders were asked, compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from openchat_local.finetune.evaluation.answers import summary
from openchat_local.finetune.evaluation.answers.asking import Replies
from openchat_local.finetune.evaluation.answers.faults import AnswersError
from openchat_local.finetune.evaluation.answers.judging import Outcome
from openchat_local.finetune.evaluation.answers.matching import Rule
from openchat_local.finetune.evaluation.answers.questions import Questions
from openchat_local.finetune.evaluation.contender import Contender
from openchat_local.finetune.evaluation.result import Result, made_by

_LISTED = 10  # questions that could not be asked


def result_of(
    contenders: Sequence[Contender],
    read: Questions,
    found: Sequence[Sequence[Outcome | None]],
    replies: Sequence[Replies],
    rule: Rule,
    settings: Mapping[str, Any],
) -> Result:
    """What came out; `found` and `replies` have an entry for each contender, `found` in these one
    for each question. A question that one could not be asked counts for nobody.

    Raises AnswersError where none is left.
    """
    together = [
        [one for one in own if one is not None]
        for own in zip(*found, strict=True)
        if all(one is not None for one in own)
    ]
    notes = [*read.notes, *_doubts(contenders), *_unasked(read, replies)]
    if not together:
        raise AnswersError(f"None of the questions in {read.path} could be asked: {notes[-1]}")
    labels = [one.label for one in contenders]
    outcomes = [[own[index] for own in together] for index in range(len(contenders))]
    scores = [summary.score(label, own) for label, own in zip(labels, outcomes, strict=True)]
    changes = [
        summary.change(label, own, labels[0], outcomes[0])
        for label, own in zip(labels[1:], outcomes[1:], strict=True)
    ]
    samples = settings["samples"]
    return Result(
        kind="answers",
        title=f"Right answers to {len(together):,} questions of {read.path.name}",
        made_by=made_by("answers", contenders, [read.path], settings),
        summary={
            "questions": len(together),
            "unasked": len(read.questions) - len(together),
            "scores": [summary.facts(one) for one in scores],
            "changes": [summary.change_facts(one) for one in changes],
        },
        sentences=[summary.sentence(one) for one in changes] or [summary.alone(scores[0])],
        tables=[
            summary.score_table(scores, samples, str(rule), [one[0].gold.kind for one in together]),
            *summary.examples(labels, outcomes),
        ],
        notes=[*notes, *_cautions(scores, samples)],
        rows=[summary.row_of(labels, own) for own in together],
    )


def _doubts(contenders: Sequence[Contender]) -> Iterator[str]:
    yield from (one.doubt for one in contenders if one.doubt is not None)


def _unasked(read: Questions, replies: Sequence[Replies]) -> Iterator[str]:
    """Which questions could not be asked, and why."""
    errors: dict[str, str] = {}
    for own in replies:
        for (digest, _), reply in own.items():
            if reply.error is not None:
                errors.setdefault(digest, reply.error)
    lines = [
        (question.line, errors[question.digest])
        for question in read.questions
        if question.digest in errors
    ]
    if lines:
        yield f"Questions that could not be asked, and count for nobody: {len(lines):,}."
        yield from (f"  {read.path.name}, row {line}: {why}" for line, why in lines[:_LISTED])
        if len(lines) > _LISTED:
            yield f"  … and {len(lines) - _LISTED:,} more."


def _cautions(scores: Sequence[summary.Score], samples: int) -> Iterator[str]:
    """What makes figures smaller than the model deserves."""
    for one in scores:
        replies = one.questions * samples
        if one.cut > replies / 10:
            yield (
                f"{one.cut:,} of {replies:,} replies of {one.label} were cut: a larger "
                "--max-tokens lets them come to their answer."
            )
        if one.without > one.questions / 10:
            yield (
                f"To {one.without:,} of {one.questions:,} questions no answer of {one.label} was "
                "found: see the report, and say with --append how to answer, or with --match how "
                "it is found."
            )
