"""What a server is and can do, by its answers to questions that hold nothing of the user's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from openchat_local.models.engine.capabilities import SAMPLING_NAMES, Capabilities, Kind
from openchat_local.models.engine.remote.faults import Refused
from openchat_local.models.engine.remote.link import Link
from openchat_local.models.errors import EngineError, ModelLoadError

_OWNERS: dict[str, Kind] = {
    "openchat-local": "openchat-local",
    "llamacpp": "llama-server",
    "vllm": "vllm",
    "openai": "openai",
    "openai-internal": "openai",
    "system": "openai",
}
ADAPTER = "::"
"""Between a model, or nothing for the one that is loaded there, and its adapter, where an adapter
is what was asked for: what servers name `base:adapter` may be anything elsewhere."""
_NAMED = 8  # models in a sentence
_PROBE = "a"


@dataclass(frozen=True, slots=True)
class Discovered:
    """`model` is the id to ask for. `context` in tokens and `sequences`, how many replies are
    written at once, are 0 where the server does not tell. `condition` is what the model answers
    under where none is asked for. `thinks` is False only where the server says so."""

    model: str
    can: Capabilities
    context: int = 0
    context_trained: int = 0
    sequences: int = 0
    condition: str = ""
    thinks: bool = True


def discover(link: Link) -> Discovered:
    """Ask the server what it is. Raises EngineError; ModelLoadError where it has not the model
    that is wanted, or several and none is."""
    listed = _listed(link)
    kind = _kind(listed.values(), link.options.address.host)
    model = _chosen(link, [*listed], kind)
    entry = listed.get(model, {})
    facts = _facts(link) if kind in ("openchat-local", "llama-server") else {}
    can = Capabilities(
        kind,
        tuple(listed),
        adapters=kind == "openchat-local",
        conditions=kind == "openchat-local",
        counts=kind in ("openchat-local", "llama-server", "vllm") and _tokenizes(link, model),
        scoring=kind in ("openchat-local", "vllm"),
        continuing=kind in ("openchat-local", "vllm"),
        thinking=kind in ("openchat-local", "llama-server", "vllm")
        and facts.get("thinking_switch") is not False,
        sampling=frozenset(SAMPLING_NAMES if kind not in ("openai", "other") else ()),
    )
    settings = facts.get("default_generation_settings")
    size = facts.get("n_ctx") or (settings.get("n_ctx") if isinstance(settings, dict) else None)
    told = _number(entry.get("max_model_len")) or _number(size)
    meta = entry.get("meta")
    trained = _number(facts.get("n_ctx_train")) or _number(
        meta.get("n_ctx_train") if isinstance(meta, dict) else None
    )
    condition = entry.get("condition")
    return Discovered(
        model,
        can,
        context=told or link.options.context,
        context_trained=trained or told or link.options.context,
        sequences=_number(facts.get("total_slots")),
        condition=condition if can.conditions and isinstance(condition, str) else "",
        thinks=facts.get("thinks") is not False,
    )


def _listed(link: Link) -> dict[str, Mapping[str, Any]]:
    """The models by their ids; none of a server that has no list."""
    try:
        answer = link.get("/models")
    except Refused as error:
        if error.status in (404, 405) and link.options.model:
            return {}
        raise
    entries = answer.get("data") if isinstance(answer, dict) else answer
    if not isinstance(entries, list):
        return {}
    return {
        entry["id"]: entry
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("id"), str) and entry["id"]
    }


def _kind(entries: Any, host: str) -> Kind:
    owners = {owner for entry in entries if isinstance(owner := entry.get("owned_by"), str)}
    if host == "api.openai.com":
        return "openai"
    found = {_OWNERS[owner] for owner in owners if owner in _OWNERS}
    # "system" and the like are said by others as well: only by OpenAI together with its name.
    for kind in ("openchat-local", "llama-server", "vllm"):
        if kind in found:
            return kind
    return "other"


def _chosen(link: Link, models: list[str], kind: Kind) -> str:
    place, wanted = link.options.address.place, link.options.model
    base, asked, adapter = wanted.partition(ADAPTER)
    if asked:
        if kind != "openchat-local" or not models:
            raise ModelLoadError(f"{place} has no adapters of ours: leave --adapter away.")
        wanted = f"{base or models[0]}:{adapter}"
    if wanted and (wanted in models or not models or kind == "other"):
        return wanted  # perhaps it has another name for one of its own
    if wanted:
        near = get_close_matches(wanted, models, n=_NAMED, cutoff=0.5) or models
        raise ModelLoadError(f"{place} has no model {wanted!r}: it has {_few(near)}.")
    if not models:
        raise EngineError(f"{place} does not say which models it has: name one with -m.")
    if len(models) > 1 and kind != "openchat-local":  # whose first is the one that it loaded
        raise ModelLoadError(
            f"{place} has {len(models):,} models: name one with -m, such as {_few(models)}."
        )
    return models[0]


def _few(models: list[str]) -> str:
    more = f" and {len(models) - _NAMED:,} more" if len(models) > _NAMED else ""
    return ", ".join(models[:_NAMED]) + more


def _facts(link: Link) -> Mapping[str, Any]:
    try:
        answer = link.get("/props", root=True)
    except Refused:
        return {}
    return answer if isinstance(answer, dict) else {}


def _tokenizes(link: Link, model: str) -> bool:
    try:
        answer = link.post(
            "/tokenize", {"model": model, "prompt": _PROBE, "content": _PROBE}, root=True
        )
    except EngineError:
        return False
    return isinstance(answer, dict) and isinstance(answer.get("tokens"), list)


def _number(value: object) -> int:
    return value if isinstance(value, int) and 0 < value < 2**31 else 0
