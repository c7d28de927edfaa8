"""What is not asked of a remote engine: nothing of a private chat, and nothing that it would
have to leave out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openchat_local.models.errors import EngineError

if TYPE_CHECKING:
    from openchat_local.models.engine.capabilities import RemotePlace


class PrivateError(EngineError):
    """A private chat, and an engine on another machine."""


def refuse_private(place: RemotePlace | None, *, private: bool) -> None:
    """Raise PrivateError where words of a private chat would leave this machine."""
    if private and place is not None and place.leaves:
        raise PrivateError(
            f"This chat is private, and its words would leave this machine for {place.place}: "
            "choose a model that is here, or ask in another chat."
        )


def refuse_impossible(
    place: RemotePlace | None, condition: str | None, *, continues: bool = False
) -> None:
    """Raise EngineError for a reply that could only be had by leaving out what makes it."""
    if place is None:
        return
    if condition and not place.can.conditions:
        raise EngineError(place.why_not("conditions") or "")
    if continues and not place.can.continuing:
        raise EngineError(place.why_not("continuing") or "")
