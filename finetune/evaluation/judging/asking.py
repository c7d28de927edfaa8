"""A judge's choice among a few verdicts: written out as JSON, or read off its probabilities."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from openchat_local.finetune.evaluation.asking import ask_all
from openchat_local.finetune.evaluation.judging.judge import Judging
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.protocol import (
    Engine,
    GenerationRequest,
    Sampling,
    Score,
    ScoreRequest,
)
from openchat_local.models.errors import ContextOverflow

LONGEST_REASON = 400  # characters of "why", so that there are tokens left for the verdict
_TOO_LONG = "is impossible: its prompt is longer than the judge's context"
_FAILED = "failed: "  # for a reason of the engine's, which may be gone next time
_SCORED_TOGETHER = 16  # judgements a call: what is done survives a Ctrl-C


@dataclass(frozen=True, slots=True)
class Choice:
    """What a judge may say: `values` of the JSON field `field`, and how each is said where
    its likelihood is asked for."""

    field: str
    values: tuple[str | int, ...]
    said: tuple[str, ...]

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of a written judgement. The reason comes first: a verdict that is
        written after it can follow from it."""
        return {
            "type": "object",
            "properties": {
                "why": {"type": "string", "maxLength": LONGEST_REASON},
                self.field: {"enum": list(self.values)},
            },
            "required": ["why", self.field],
            "additionalProperties": False,
        }


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came of the prompt `index`: one of the choice's values, or None and the reason.
    `probabilities` are those of the values in their order, where they were asked for."""

    index: int
    value: str | int | None
    why: str = ""
    error: str | None = None
    probabilities: tuple[float, ...] = ()


def judge_each(
    engine: Engine, prompts: Sequence[str], choice: Choice, judging: Judging, at_once: int
) -> Generator[Judgement, None, None]:
    """A judgement on every prompt, as they are ready. Raises EngineDied."""
    if judging.by == "likelihood":
        return _by_likelihood(engine, prompts, choice, judging)
    return _by_answer(engine, prompts, choice, judging, at_once)


def is_passing(error: str | None) -> bool:
    """Whether what came to nothing may come to something when it is tried again."""
    return error is not None and _FAILED in error


def _conversation(prompt: str, judging: Judging) -> Conversation:
    return Conversation((Message("user", prompt),), judging.condition)


def _by_answer(
    engine: Engine, prompts: Sequence[str], choice: Choice, judging: Judging, at_once: int
) -> Generator[Judgement, None, None]:
    sampling = Sampling(temperature=0.0, max_tokens=judging.tokens, json_schema=choice.schema)
    requests = [
        GenerationRequest(
            _conversation(prompt, judging), sampling, update_interval=1.0, adapter=judging.adapter
        )
        for prompt in prompts
    ]
    told = {
        "length": f"was not at its end after {judging.tokens} tokens",
        "time": f"took longer than {judging.seconds:g} seconds",
        "overflow": _TOO_LONG,
        "cancelled": "was cancelled",
    }
    replies = ask_all(engine, requests, at_once=at_once, seconds=judging.seconds)
    with closing(replies):
        for reply in replies:
            if reply.reason == "stop":
                yield _read(reply.index, reply.text, choice)
            else:
                error = told.get(reply.reason, f"{_FAILED}{reply.error}")
                yield Judgement(reply.index, None, error=error)


def _read(index: int, text: str, choice: Choice) -> Judgement:
    """The judgement in a reply; not every engine holds it to the schema."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    value = found.get(choice.field) if isinstance(found, dict) else None
    why = found.get("why") if isinstance(found, dict) else None
    # True is 1, and 7.0 is 7, to Python: not here.
    fits = any(type(value) is type(one) and value == one for one in choice.values)
    if not fits or not isinstance(why, str):
        return Judgement(index, None, error=f"is no {choice.field}: {_beginning(text)!r}")
    return Judgement(index, value, why.strip())


def _beginning(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"


def _by_likelihood(
    engine: Engine, prompts: Sequence[str], choice: Choice, judging: Judging
) -> Generator[Judgement, None, None]:
    for start in range(0, len(prompts), _SCORED_TOGETHER):
        indices = range(start, min(start + _SCORED_TOGETHER, len(prompts)))
        try:
            yield from _scored(engine, indices, prompts, choice, judging)
        except ContextOverflow:  # before any of them was evaluated: one by one, to see which
            for index in indices:
                try:
                    yield from _scored(engine, [index], prompts, choice, judging)
                except ContextOverflow:
                    yield Judgement(index, None, error=_TOO_LONG)


def _scored(
    engine: Engine,
    indices: Sequence[int],
    prompts: Sequence[str],
    choice: Choice,
    judging: Judging,
) -> Generator[Judgement, None, None]:
    """Judgements by the likelihood of each value as the reply. Raises ContextOverflow."""
    count = len(choice.said)
    requests = [
        ScoreRequest(_conversation(prompts[index], judging), said, adapter=judging.adapter)
        for index in indices
        for said in choice.said
    ]
    scores: dict[int, dict[int, Score]] = {}
    with closing(engine.score(requests)) as found:
        for score in found:
            own = scores.setdefault(score.index // count, {})
            own[score.index % count] = score
            if len(own) == count:
                of_all = [own[number] for number in range(count)]
                yield _likeliest(indices[score.index // count], of_all, choice)


def _likeliest(index: int, scores: Sequence[Score], choice: Choice) -> Judgement:
    masses = [_own_mass(score, scores) for score in scores]
    total = math.fsum(masses)
    if not (total > 0 and math.isfinite(total)):
        return Judgement(index, None, error=f"gives no {choice.field} any probability")
    shares = tuple(mass / total for mass in masses)
    best = choice.values[shares.index(max(shares))]
    why = f"{total:.1%} of its probability is on a {choice.field}, of that "
    why += ", ".join(
        f"{value} {share:.0%}" for value, share in zip(choice.values, shares, strict=True)
    )
    return Judgement(index, best, why, probabilities=shares)


def _own_mass(score: Score, scores: Sequence[Score]) -> float:
    """The probability that a reply begins with this value and not with a longer one that it
    is the beginning of, as 1 is of 10 where digits are tokens."""
    longer = [
        other
        for other in scores
        if len(other.ids) > len(score.ids) and other.ids[: len(score.ids)] == score.ids
    ]
    mass = math.exp(score.log_probability) - math.fsum(
        math.exp(other.log_probability) for other in longer
    )
    return max(mass, 0.0)
