"""Whether a model thinks before it answers, and whether it can be asked to, or not to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openchat_local.models.engine.protocol import LoadedModel


def why_fixed(loaded: LoadedModel) -> str | None:
    """Why nobody can choose whether this model thinks; None where one can."""
    if loaded.thinking_switch:
        return None
    if loaded.thoughts is None:
        return "this model does not think before it answers"
    if loaded.remote is not None and not loaded.remote.can.thinking_known:
        return f"{loaded.remote.place} is not known to take a wish for thoughts, or for none"
    return "this model's template cannot be asked for replies with thoughts, or without"


def without_effect(loaded: LoadedModel, thinking: bool | None) -> str | None:
    """What the user is told whose choice changes nothing; None where it does, or where none was
    made."""
    why = why_fixed(loaded)
    if thinking is None or why is None or (loaded.thoughts is None and not thinking):
        return None
    return f"{'--think' if thinking else '--no-think'} changes nothing: {why}."
