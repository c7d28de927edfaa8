"""`/adapter` in the prompt: what answers, changed while the window is open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openchat_local.app.engine import installed_adapters
from openchat_local.app.settings.per_chat import DEFAULT
from openchat_local.app.settings.who_answers import condition_in_force, condition_in_words
from openchat_local.models.library.adapters import NO_ADAPTER

if TYPE_CHECKING:
    from openchat_local.models.engine.protocol import LoadedModel

COMMAND = "/adapter"


def adapter_in_words(model: LoadedModel, condition: str | None) -> str:
    """Which adapter is in force, and what it brings along; `condition` is the chat's own."""
    adapter = model.adapter
    if adapter is None:
        return f"{model.name} answers without an adapter."
    under = f"under the condition {condition_in_words(condition, model)}"
    if not condition_in_force(condition, model):
        under = "without a condition"
    sentence = f"{model.name} answers with the adapter {adapter.name}, {under}."
    if condition is not None and adapter.condition not in (None, condition.strip()):
        sentence += f" It was trained for {adapter.condition!r}: /condition {DEFAULT} takes that."
    return " ".join((sentence, *model.notes))


def adapter_choices() -> str:
    """What can be written after the command."""
    names = installed_adapters().names()
    installed = f"Installed: {', '.join(names)}." if names else "No adapter is installed yet."
    return f"{installed} {COMMAND} NAME uses one, {COMMAND} {NO_ADAPTER} goes without."
