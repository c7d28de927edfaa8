"""What a row was taken for, and the conversations in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from openchat_local.finetune.data.shapes.row import Turn


class Found(NamedTuple):
    """One conversation of a row. `format` is what it was taken for, `about` the fields that say
    more of it than the row does; `side` is "chosen" or "rejected", where that is its class."""

    format: str
    turns: list[Turn]
    about: Mapping[str, Any] = {}
    side: str = ""
