"""Answers as OpenAI's clients expect them."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from typing import Any

from openchat_local.app.server.errors import ApiError
from openchat_local.models.engine.protocol import Finished, Usage

DONE = b"data: [DONE]\n\n"
STILL_HERE = b": still at work\n\n"  # a comment, which clients skip


class Envelope:
    """What all parts of one answer have in common: id, time, model, what produced it."""

    def __init__(self, prefix: str, kind: str, model: str, fingerprint: str) -> None:
        self._fields = {
            "id": f"{prefix}-{secrets.token_hex(12)}",
            "object": kind,
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": fingerprint,
        }

    def around(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """An answer, or a chunk of one."""
        return self._fields | {"choices": choices} | more


def usage_of(usages: Sequence[Usage], *, prompts: int = 1) -> dict[str, Any]:
    """What replies cost; the first `prompts` of them have prompts of their own."""
    prompt = sum(usage.prompt_tokens for usage in usages[:prompts])
    return counts(
        prompt,
        sum(usage.generated_tokens for usage in usages),
        min(prompt, sum(usage.reused_tokens for usage in usages[:prompts])),
        sum(usage.reasoning_tokens for usage in usages),
    )


def counts(prompt: int, generated: int, cached: int, reasoning: int = 0) -> dict[str, Any]:
    """OpenAI's usage, in tokens; `reasoning` of those generated were thoughts."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def why(finished: Finished, *, calls: bool = False) -> str:
    """OpenAI's finish_reason of a reply, which may want something called."""
    if finished.reason != "stop":
        return "length"
    return "tool_calls" if calls else "stop"


def event(value: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + dumped(value) + b"\n\n"


def error_event(error: ApiError) -> bytes:
    """What ended a stream."""
    return event(error.body)


def dumped(value: Any) -> bytes:
    """JSON in UTF-8, on one line; half a surrogate pair, which UTF-8 cannot carry, becomes "?"."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "replace")
