"""What may leave this machine: nothing of a private chat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openchat_local.models.errors import EngineError

if TYPE_CHECKING:
    from openchat_local.models.engine.protocol import LoadedModel


class PrivateError(EngineError):
    """A private chat, and an engine on another machine."""


def refuse_private(loaded: LoadedModel, *, private: bool) -> None:
    """Raise PrivateError where words of a private chat would leave this machine."""
    remote = loaded.remote
    if private and remote is not None and remote.leaves:
        raise PrivateError(
            f"This chat is private, and {loaded.name} answers on another machine, {remote.place}: "
            "choose a model that is here, or ask in another chat."
        )
