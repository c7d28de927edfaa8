"""A request's parameters become the engine's, over the server's own settings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from openchat_local.app.server.bodies import ChatBody, ResponseFormat, SamplingBody
from openchat_local.app.server.errors import refused
from openchat_local.models.engine.protocol import Sampling


def sampling_of(body: SamplingBody, settings: Sampling) -> Sampling:
    """How the next token is chosen. Raises ApiError."""
    penalty = body.repeat_penalty if body.repeat_penalty is not None else body.repetition_penalty
    given: dict[str, Any] = {
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k if body.top_k is None else max(0, body.top_k),
        "min_p": body.min_p,
        "repeat_penalty": penalty,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    if body.seed is not None:
        chosen["seed"] = body.seed % 2**32 if body.seed >= 0 else None
    limit = body.max_tokens
    if isinstance(body, ChatBody):
        limit = limit if body.max_completion_tokens is None else body.max_completion_tokens
        if limit == 0:
            raise refused("max_tokens: a reply has one token at least.", "max_tokens")
        chosen["json_schema"] = _schema(body.response_format)
        if (thinking := body.thinking()) is not None:
            chosen["thinking"] = thinking
    if limit is not None:
        chosen["max_tokens"] = None if limit < 0 else limit
    return replace(settings, stop=body.stops(), **chosen)


def another_seed(sampling: Sampling, number: int) -> Sampling:
    """That of the reply of this number: with one seed all would be the same."""
    if not number or sampling.seed is None:
        return sampling
    return replace(sampling, seed=(sampling.seed + number) % 2**32)


def _schema(format: ResponseFormat | None) -> dict[str, Any] | None:
    if format is None or format.type == "text":
        return None
    if format.type == "json_object":
        return {"type": "object"}
    schema = (format.json_schema or {}).get("schema")
    if not isinstance(schema, dict):
        raise refused(
            "response_format.json_schema.schema is missing: give the JSON schema there.",
            "response_format",
        )
    return schema
