"""What a command does not ask of a remote engine, and which chats do not lead to one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.chats import Chat
    from openchat_local.app.settings.model import Settings
    from openchat_local.models.engine.protocol import LoadedModel


def refuse_unknown(loaded: LoadedModel, sampling: Mapping[str, Any]) -> None:
    """Raise OpenChatError for a flag of the sampling that has no effect on a remote engine."""
    if loaded.remote is None:
        return
    for name, value in sampling.items():
        if value is not None and (why := loaded.remote.misses(name)) is not None:
            raise OpenChatError(why)


def refuse_elsewhere(model: str, settings: Settings, chat: Chat) -> None:
    """Raise OpenChatError where a chat names an engine elsewhere that its owner may never have
    named: chats are imported from files of others, too."""
    from openchat_local.app.settings.remote_models import options_of, remote_model

    found = remote_model(model, settings.engines)
    if found is None or (found.engine in settings.engines and chat.origin is None):
        return
    place = options_of(settings, found).place()
    if place.leaves:
        raise OpenChatError(
            f"This chat was last at {place.url}, which is another machine: say --engine "
            f"{found.engine} to go on there, or -m with a model that is here."
        )
