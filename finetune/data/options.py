"""What a person may say of their data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from openchat_local.finetune.data.policy import Loss
from openchat_local.finetune.data.reading import Reading, reading_of

DEFAULT_MAX_LENGTH = 2048
"""Tokens of the longest conversation that is kept whole where nobody says so."""


@dataclass(frozen=True, slots=True)
class DataOptions:
    """The flags that say how the data is to be read and weighed.

    `rewards` and `conditions` are by class, `loss` as in `Policy`. Validation data is the file
    `validation`, or else about `held_out` of the conversations. `own_headers` is as in
    `decide_policy`; the others that `reading` is made of are as a person writes them.
    """

    class_field: str | None = None
    rewards: Mapping[str, float] = field(default_factory=dict)
    conditions: Mapping[str, str] = field(default_factory=dict)
    skip_bad: bool = False
    validation: Path | None = None
    held_out: float = 0.05
    loss: Loss = "per-token"
    own_headers: bool = False
    classes: str | None = None
    reward_field: str | None = None
    reward_map: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    format: str | None = None
    thinking: bool = False

    def check(self) -> None:
        """Raise OpenChatError for words that say nothing, before anything else is done."""
        _ = self.reading

    @property
    def reading(self) -> Reading:
        """How rows are to be read. Raises OpenChatError for words that say nothing."""
        return reading_of(
            self.class_field,
            self.classes,
            self.reward_field,
            self.reward_map,
            self.columns,
            self.format,
            self.thinking,
        )
