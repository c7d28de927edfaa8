"""How a server wants requests to be put, as far as it has said so by refusing one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from openchat_local.models.engine.protocol import GenerationRequest, Sampling

MOST, MOST_NEW = "max_tokens", "max_completion_tokens"
_USUAL = Sampling()
_UNKNOWN = ("unsupported", "not support", "unknown", "unrecognized", "extra", "not permitted")


@dataclass(frozen=True, slots=True)
class Habits:
    """`unsent` are names that it does not take; `renamed` says that it takes the other name for
    the longest reply, of which OpenAI has two; `loose` that it takes no schema that has to be
    obeyed, but recommends one. `note` is what the user should know of the latest of them."""

    unsent: frozenset[str] = frozenset()
    renamed: bool = False
    loose: bool = False
    note: str | None = None

    def applied(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A request as the server wants it."""
        found = {name: value for name, value in body.items() if name not in self.unsent}
        if self.renamed:
            other = {MOST: MOST_NEW, MOST_NEW: MOST}
            found = {other.get(name, name): value for name, value in found.items()}
        if self.loose and "json_schema" in found.get("response_format", {}):
            format = found["response_format"]
            found["response_format"] = {
                **format, "json_schema": {**format["json_schema"], "strict": False}
            }  # fmt: skip
        return found


def learned(
    before: Habits, body: Mapping[str, Any], request: GenerationRequest, param: str, said: str
) -> Habits | None:
    """What the server does not take of a `body` that it refused, by the parameter that it names
    and what it `said`. None where it was refused for something else, or for what the user asked
    for in so many words: a value other than the usual one."""
    named = f"{param} {said}".lower()
    unknown = any(word in named for word in _UNKNOWN)
    limit = next((name for name in (MOST_NEW, MOST) if name in body), None)
    if limit is not None and limit in named and unknown and not before.renamed:
        return replace(before, renamed=True, note=None)
    for name in ("stream_options", "seed", "temperature", "top_p"):
        if name not in body or not (param == name or (name in named and unknown)):
            continue
        if name == "stream_options" or (name == "seed" and request.seed_drawn):
            return replace(before, unsent=before.unsent | {name}, note=None)
        if name != "seed" and body[name] == getattr(_USUAL, name):
            note = f"This model has a {name.replace('_', '-')} of its own: none was sent."
            return replace(before, unsent=before.unsent | {name}, note=note)
    schema = body.get("response_format", {}).get("json_schema", {})
    if schema.get("strict") and ("response_format" in named or "schema" in named):
        return replace(before, loose=True, note=None)
    return None
