"""How likely given tokens are, through /completions with `echo` and `logprobs`."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from openchat_local.models.engine.protocol import Score, ScoreRequest
from openchat_local.models.engine.remote.counting import ids_of_prompt, ids_of_text
from openchat_local.models.engine.remote.discovery import Discovered
from openchat_local.models.engine.remote.link import Link
from openchat_local.models.errors import ContextOverflow, EngineError

_TOGETHER = 8  # prompts a request
_SAME = 1e-6  # nats: what rounding makes of one and the same figure


def scores(
    link: Link, found: Discovered, requests: Sequence[ScoreRequest]
) -> Generator[Score, None, None]:
    """A score for each request, as `Engine.score`. Raises ContextOverflow before anything is
    asked where one is too long, EngineError where the likeliest tokens are asked for: servers
    tell those by their text alone."""
    place = link.options.address.place
    if any(request.top for request in requests):
        raise EngineError(
            f"{place} does not tell the ids of the likeliest tokens: use a model here."
        )
    if any(request.adapter is not None and request.adapter.path for request in requests):
        raise EngineError(f"{place} has no adapter of this machine: name its own model.")
    pairs = [_ids(link, found, request) for request in requests]
    for before, after in pairs:
        if found.context and len(before) + len(after) > found.context:
            raise ContextOverflow(
                f"{len(before) + len(after):,} tokens are to be judged and the context of {place} "
                f"holds {found.context:,}: shorten them."
            )
    for start in range(0, len(requests), _TOGETHER):
        part = range(start, min(start + _TOGETHER, len(requests)))
        yield from _asked(link, found, requests, pairs, part)


def _ids(
    link: Link, found: Discovered, request: ScoreRequest
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    before, after = request.prompt, request.continuation
    if not isinstance(before, tuple):
        if before.messages and before.messages[-1].role == "assistant":
            raise EngineError(f"{link.options.address.place} cannot judge the rest of a reply.")
        before = ids_of_prompt(link, found, before)
    if not isinstance(after, tuple):
        after = ids_of_text(link, found, after)
    if not before:
        raise EngineError("There is nothing before what is to be judged: begin with a token.")
    return before, after


def _asked(
    link: Link,
    found: Discovered,
    requests: Sequence[ScoreRequest],
    pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
    part: Sequence[int],
) -> Iterator[Score]:
    body = {
        "model": found.model,
        "prompt": [[*pairs[number][0], *pairs[number][1]] for number in part],
        "max_tokens": 1,
        "temperature": 0,
        "echo": True,
        "logprobs": 1,
        "add_special_tokens": False,
    }
    answer = link.post("/completions", body)
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or len(choices) != len(part):
        raise EngineError(f"{link.options.address.place} does not tell how likely a text is.")
    cached = _cached(answer)
    for place, number in enumerate(part):
        before, after = pairs[number]
        values, best = _likelihoods(link, choices[place], len(before), len(after))
        judged = requests[number].judged or ((0, len(after)),)
        kept = [at for first, last in judged for at in range(first, last)]
        yield Score(
            number,
            tuple(after[at] for at in kept),
            tuple(values[at] for at in kept),
            tuple(values[at] >= best[at] - _SAME for at in kept),
            ((),) * len(kept),
            len(before) + len(after),
            cached if place == 0 else 0,
        )


def _likelihoods(
    link: Link, choice: Any, before: int, after: int
) -> tuple[list[float], list[float]]:
    """For each token of the continuation its own, and that of the likeliest in its place."""
    told = choice.get("logprobs") if isinstance(choice, dict) else None
    values = told.get("token_logprobs") if isinstance(told, dict) else None
    tops = told.get("top_logprobs") if isinstance(told, dict) else None
    if not isinstance(values, list) or len(values) < before + after:
        raise EngineError(
            f"{link.options.address.place} does not tell how likely the tokens of a prompt are: "
            "use a model that is here."
        )
    own = [_finite(link, value) for value in values[before : before + after]]
    rows = tops[before : before + after] if isinstance(tops, list) else [None] * after
    best = [
        max([value, *(one for one in row.values() if isinstance(one, int | float))])
        if isinstance(row, dict)
        else value
        for value, row in zip(own, rows, strict=True)
    ]
    return own, best


def _finite(link: Link, value: Any) -> float:
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    raise EngineError(f"{link.options.address.place} gives a likelihood that is no number.")


def _cached(answer: dict[str, Any]) -> int:
    usage = answer.get("usage")
    details = usage.get("prompt_tokens_details") if isinstance(usage, dict) else None
    count = details.get("cached_tokens") if isinstance(details, dict) else None
    return count if isinstance(count, int) and count > 0 else 0
