"""Who gives the next reply of a chat, and under which condition."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openchat_local.app.chats.who_wrote import Answerer
from openchat_local.app.settings.per_chat import SAMPLING_NAMES, EffectiveSettings, in_words

if TYPE_CHECKING:
    from openchat_local.models.engine.protocol import LoadedModel

NO_ADAPTER = "none"  # of models.library.adapters, which a start of the window does not wait for


def answerer(now: EffectiveSettings, loaded: LoadedModel | None) -> Answerer:
    """Who gives the next reply of a chat with these settings, by the model that is loaded; as
    far as that can be told without one."""
    if loaded is None:
        adapter = None if now.adapter == NO_ADAPTER else now.adapter
        return Answerer(now.model, adapter, now.condition)
    adapter = loaded.adapter.name if loaded.adapter else None
    return Answerer(loaded.name, adapter, condition_in_force(now.condition, loaded))


def effective_in_words(now: EffectiveSettings) -> str:
    """Who answers, as far as that is known without loading the model, and every value that is
    the chat's own."""
    parts = [answerer(now, None).in_words()]
    own = [name for name in SAMPLING_NAMES if name in now.own]
    parts += [
        f"{name.replace('_', ' ')} {in_words(name, getattr(now.sampling, name))}" for name in own
    ]
    return ", ".join(parts)


def condition_in_force(condition: str | None, loaded: LoadedModel) -> str:
    """The condition of the next reply: the chat's where it has one ("" for none at all), else
    the adapter's or the template's."""
    return (loaded.default_condition if condition is None else condition).strip()


def condition_in_words(condition: str | None, loaded: LoadedModel | None) -> str:
    """The condition of the next reply, and whose it is where it is not the chat's."""
    if condition is None:
        if loaded is None:
            return "the model's own"
        adapter = loaded.adapter
        owner = "adapter" if adapter and adapter.condition is not None else "model"
        return f"{_quoted(loaded.default_condition)}, the {owner}'s own"
    return _quoted(condition.strip())


def _quoted(condition: str) -> str:
    return f"{condition!r}" if condition else "none"
