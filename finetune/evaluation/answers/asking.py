"""Questions put to a contender: each reply once, kept as it comes, whatever ends the program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from openchat_local.finetune.evaluation.answers.faults import AnswersError
from openchat_local.finetune.evaluation.answers.questions import Question
from openchat_local.finetune.evaluation.asking import ask_all
from openchat_local.finetune.evaluation.contender import Contender
from openchat_local.finetune.evaluation.rows import RowFile, digest_of
from openchat_local.models.conversation import Conversation
from openchat_local.models.engine.protocol import Engine, GenerationRequest, Sampling


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply: its `text`, whether it was `cut` at its longest, its tokens and seconds. Where
    there is none, `error` is a sentence."""

    text: str
    cut: bool = False
    tokens: int = 0
    seconds: float = 0.0
    error: str | None = None


Replies = Mapping[tuple[str, int], Reply]  # by the question's digest and the sample's number


def check_samples(sampling: Sampling, samples: int) -> None:
    """Raise AnswersError where several samples would all be the same."""
    if samples > 1 and sampling.temperature == 0:
        raise AnswersError(
            f"--samples {samples} needs a --temperature above 0, such as 0.7: without one, all "
            "samples of a question are the same."
        )


def kept_replies(file: RowFile) -> dict[tuple[str, int], Reply]:
    """What was answered before."""
    found = {}
    for row in file.rows():
        try:
            key = str(row["question"]), int(row["sample"])
            found[key] = Reply(
                str(row["text"]), bool(row["cut"]), int(row["tokens"]), float(row["seconds"])
            )
        except (KeyError, TypeError, ValueError):
            continue  # no row of this sort: asked again
    return found


def missing(questions: Sequence[Question], samples: int, replies: Replies) -> list[tuple[str, int]]:
    """What is still to be asked, the samples of a question one after the other: their prompt is
    then evaluated once for all."""
    wanted = dict.fromkeys((one.digest, n) for one in questions for n in range(samples))
    return [key for key in wanted if key not in replies]


def ask_questions(
    engine: Engine,
    contender: Contender,
    questions: Sequence[Question],
    samples: int,
    file: RowFile,
    on_reply: Callable[[Reply], None] = lambda _: None,
) -> Replies:
    """The replies of `contender` to all `questions`, `samples` of each; those in `file` are not
    asked for again, new ones go there as they come.

    One that cannot be had (its question is longer than the context) has its sentence, and is
    asked again the next time. Raises EngineDied, or RowsUnwritten; what came is kept.
    """
    replies = kept_replies(file)
    keys = missing(questions, samples, replies)
    by_digest = {question.digest: question for question in questions}
    requests = [_request(contender, by_digest[digest], n) for digest, n in keys]
    with closing(ask_all(engine, requests)) as answers:
        for answer in answers:
            digest, sample = keys[answer.index]
            error = answer.error
            if error is None and answer.reason not in ("stop", "length"):
                error = f"The reply ended too early ({answer.reason})."
            reply = Reply(
                answer.text,
                answer.reason == "length",
                answer.tokens,
                round(answer.seconds, 3),
                error,
            )
            replies[digest, sample] = reply
            if error is None:
                file.append(_row(digest, sample, reply))
            on_reply(reply)
    return replies


def _request(contender: Contender, question: Question, sample: int) -> GenerationRequest:
    sampling = contender.sampling
    # One of its own for each, drawn from the run's seed: replies of many sequences at once, which
    # repeat but for rounding. A seed that was asked for to the bit would be decoded alone.
    seed = int(digest_of([sampling.seed, question.digest, sample])[:8], 16)
    return GenerationRequest(
        Conversation(question.messages, contender.condition),
        replace(sampling, seed=seed),
        adapter=contender.choice,
        seed_drawn=True,
    )


def _row(digest: str, sample: int, reply: Reply) -> dict[str, Any]:
    return {
        "question": digest,
        "sample": sample,
        "text": reply.text,
        "cut": reply.cut,
        "tokens": reply.tokens,
        "seconds": reply.seconds,
    }
