"""What a person did with a reply, and what is learned from that: a class, its condition and
its reward.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from openchat_local.app.settings.layers import SettingsError
from openchat_local.app.settings.learning import NOTHING, LearningSettings

if TYPE_CHECKING:
    from openchat_local.app.settings.model import Settings

EXPERT, MIDDLE, SUBOPTIMAL = "expert", "middle", "sub-optimal"
"""The classes, best first. Under the condition of the best one the adapter answers."""


class Judgement(StrEnum):
    """What became of a reply."""

    EDITED = "edited"
    LIKED = "liked"
    CONTINUED = "continued"
    LEFT = "left"
    DISLIKED = "disliked"
    REPLACED = "replaced"

    @property
    def in_words(self) -> str:
        """What a person did, for a person: "rated good"."""
        return _WORDS[self]


_WORDS = {
    Judgement.EDITED: "edited",
    Judgement.LIKED: "rated good",
    Judgement.CONTINUED: "not rated, and the chat went on",
    Judgement.LEFT: "not rated, and nothing followed",
    Judgement.DISLIKED: "rated bad",
    Judgement.REPLACED: "left for another version",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """What replies of one judgement are trained as. `class_name` None: they are not.
    `condition` None is the one that the model's family has for its experts. `reward` is the
    weight of each of their tokens (arXiv 2309.11235)."""

    class_name: str | None
    condition: str | None = None
    reward: float = 0.0

    @property
    def teaches(self) -> bool:
        """Whether such replies are trained on."""
        return self.class_name is not None and self.reward > 0


@dataclass(frozen=True, slots=True)
class FeedbackRules:
    """A rule for every judgement; those of one class agree in condition and reward."""

    table: Mapping[Judgement, Rule]

    def __getitem__(self, judgement: Judgement) -> Rule:
        return self.table[judgement]

    @property
    def classes(self) -> tuple[Rule, ...]:
        """A rule of each class that is trained on, the one worth most first."""
        taught = {rule.class_name: rule for rule in self.table.values() if rule.teaches}
        return tuple(sorted(taught.values(), key=lambda rule: -rule.reward))


def rules_of(settings: Settings) -> FeedbackRules:
    """The table as the section `[learning]` of the settings has it.

    Raises SettingsError where a worse class would be worth more than a better one: under the
    condition of the class that is worth most the adapter would answer.
    """
    return _rules(settings.learning)


def _rules(learning: LearningSettings) -> FeedbackRules:
    classes = (
        Rule(EXPERT, learning.expert.condition.strip() or None, learning.expert.reward),
        Rule(MIDDLE, learning.middle.condition.strip(), learning.middle.reward),
        Rule(SUBOPTIMAL, learning.suboptimal.condition.strip(), learning.suboptimal.reward),
    )
    _check(classes)
    named = {rule.class_name: rule for rule in classes} | {NOTHING: Rule(None)}
    return FeedbackRules(
        MappingProxyType({each: named[getattr(learning, each)] for each in Judgement})
    )


def _check(classes: tuple[Rule, ...]) -> None:
    names = ("expert", "middle", "suboptimal")
    for better, worse, above, below in zip(classes, classes[1:], names, names[1:], strict=False):
        if worse.reward > better.reward:
            raise SettingsError(
                f"learning.{below}.reward is {worse.reward:g}, more than learning.{above}.reward "
                f"({better.reward:g}), and the class worth most is the one that answers: lower it."
            )


DEFAULT_RULES = _rules(LearningSettings())
"""The table that holds where nothing is set."""
