"""What a remote engine is asked with."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from openchat_local.models.engine.capabilities import Capabilities, RemotePlace
from openchat_local.models.engine.remote.address import Address
from openchat_local.models.errors import EngineError

_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """`label` is what the engine is called by. `model` is the id to ask for; "" the only one, or
    the server's own; with an adapter of it as `discovery.ADAPTER` says. `key_name` names the
    environment variable that holds the API key: the key itself is in no field of ours. `context`
    in tokens, where the server does not tell, 0 for not known. A server that says nothing for
    `silent_seconds` is given up; one that asks to wait (429) is waited for, for `patience`
    seconds altogether.
    """

    address: Address
    label: str
    model: str = ""
    key_name: str | None = None
    context: int = 0
    connect_seconds: float = 10.0
    silent_seconds: float = 300.0
    patience: float = 0.0

    def place(self, can: Capabilities | None = None) -> RemotePlace:
        """Where it is; without `can` nothing is known yet of what it can do."""
        address, leaves = self.address, not self.address.loopback
        known = can or Capabilities()
        return RemotePlace(self.label, address.base, address.place, leaves, known)

    def key(self) -> str | None:
        """The API key; None where none is named. Raises EngineError where the variable is not
        set, or holds what no key can be."""
        if self.key_name is None:
            return None
        if not _NAME.fullmatch(self.key_name):
            # Perhaps it is the key itself, which is not repeated.
            raise EngineError(
                f"The API key for {self.address.place} belongs in an environment variable, and "
                "what is named is no name of one: use capitals, digits and _, such as "
                "OPENAI_API_KEY."
            )
        value = os.environ.get(self.key_name, "").strip()
        if not value:
            raise EngineError(
                f"The environment variable {self.key_name}, which should hold the API key for "
                f"{self.address.place}, is not set: set it, or name another."
            )
        if not (value.isascii() and value.isprintable()) or " " in value:
            raise EngineError(
                f"The environment variable {self.key_name} holds no API key: a key is one word of "
                "plain letters and digits."
            )
        return value
