"""The switch that keeps every network path shut."""

from __future__ import annotations

import os

from openchat_local.models.errors import OpenChatError

VARIABLE = "OPENCHAT_LOCAL_OFFLINE"

_OFF = frozenset({"", "0", "no", "off", "false"})


class OfflineError(OpenChatError):
    """The network was asked for, and the user has shut it off."""


def require_network(what: str) -> None:
    """Raise OfflineError if the user wants no network: `what` is what would have used it, as
    the beginning of the sentence ("Fetching a model")."""
    for variable in (VARIABLE, "HF_HUB_OFFLINE"):
        if os.environ.get(variable, "").strip().lower() not in _OFF:
            how = (
                f"without --offline and with {variable} unset"
                if (variable == VARIABLE)
                else f"with {variable} unset"
            )
            raise OfflineError(
                f"{what} needs the network, which {variable} shuts off: try again {how}."
            )
