"""How a person wants their data read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from openchat_local.finetune.data.rewards import MinMax, RewardRule, parse_rule
from openchat_local.finetune.data.scores import ScoreClasses, parse_classes
from openchat_local.models.errors import OpenChatError

FORMATS = (
    "messages", "alpaca", "prompt", "preference", "completions", "tree", "transcript",
)  # fmt: skip
"""What a row may be taken for, where its fields could mean several things."""

COLUMNS = (
    "prompt", "completion", "system", "messages", "chosen", "rejected", "text", "history",
)  # fmt: skip
"""What a column may be said to be."""


class ReadingError(OpenChatError):
    """Words that do not say how data are to be read."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What rows mean. `class_field` names the field that holds the class, instead of "class" or
    "condition"; with `classes` it is a number. `reward_field` names a number of which `rewards`
    makes the reward; `span` is the lowest and the highest of them, None until it is known.
    `columns` says under what names the fields COLUMNS are; `format` is one of FORMATS, or None
    for what the fields say. With `thinking` replies are learned with what they think first."""

    class_field: str | None = None
    classes: ScoreClasses | None = None
    reward_field: str | None = None
    rewards: RewardRule = field(default_factory=MinMax)
    span: tuple[float, float] | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    format: str | None = None
    thinking: bool = False

    def reward(self, score: float) -> float | None:
        """What a score is worth; None while that hangs on scores which are not known."""
        if self.span is None:
            return None if self.rewards.needs_range else self.rewards.reward(score, 0.0, 0.0)
        return self.rewards.reward(score, *self.span)


PLAIN = Reading()


def reading_of(
    class_field: str | None,
    classes: str | None,
    reward_field: str | None,
    reward_map: str | None,
    columns: Mapping[str, str],
    format: str | None,
    thinking: bool = False,
) -> Reading:
    """How flags say that data are to be read. Raises ReadingError, ClassesError, RewardError."""
    if classes is not None and class_field is None:
        raise ReadingError(
            "--classes needs --class-field, which names the number they are made of."
        )
    if reward_map is not None and reward_field is None:
        raise ReadingError("--reward-map needs --reward-field, which names the number it is about.")
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise ReadingError(f"--columns knows {', '.join(COLUMNS)}, and not {unknown[0]!r}.")
    if format is not None and format not in FORMATS:
        raise ReadingError(f"{format!r} is no format: give one of {', '.join(FORMATS)}.")
    return Reading(
        class_field,
        None if classes is None else parse_classes(classes),
        reward_field,
        MinMax() if reward_map is None else parse_rule(reward_map),
        None,
        columns,
        format,
        thinking,
    )
