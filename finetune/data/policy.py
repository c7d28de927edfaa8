"""The classes of the data, each with its condition and reward: given, found, or known by name.

arXiv 2309.11235. The reward is the weight; no exp is taken.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from openchat_local.finetune.data.example import UNLABELLED
from openchat_local.finetune.data.faults import LINES, Places
from openchat_local.finetune.data.survey import ClassCount
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.errors import TemplateError
from openchat_local.models.template import Template

# What everybody calls them, and the paper's rewards. A family without a condition of its
# own gets OpenChat 3.5's, before the role word.
EXPERTS, EXPERT_REWARD = (
    ("expert", "human", "good", "chosen", "desirable", "gpt4", "gpt-4*"), 1.0,
)  # fmt: skip
SUBOPTIMAL, SUBOPTIMAL_REWARD = (
    ("gpt35", "gpt-3.5*", "chatgpt", "bad", "poor", "rejected", "undesirable"), 0.1,
)  # fmt: skip
EXPERT_CONDITION, SUBOPTIMAL_CONDITION = "GPT4 Correct", "GPT3"

Loss = Literal["per-token", "per-conversation"]


@dataclass(frozen=True, slots=True)
class ClassRule:
    """A class of conversations: `condition` goes into every role header ("" is none), and
    `reward` is the weight of the assistant turns that have none of their own."""

    name: str
    condition: str
    reward: float


@dataclass(frozen=True)
class Policy:
    """The classes, best first: `classes[i]` is class index i. `loss` says what a reply's weight
    is of: each of its tokens, or all of them together."""

    classes: tuple[ClassRule, ...]
    loss: Loss = "per-token"

    @property
    def plain_sft(self) -> bool:
        """Whether there is one class, whose reward then cancels out of the loss."""
        return len(self.classes) == 1

    @property
    def expert(self) -> ClassRule:
        """The class with the highest reward, under whose condition one chats."""
        return self.classes[0]

    @property
    def rewards(self) -> dict[str, float]:
        """The reward of each class by its name."""
        return {rule.name: rule.reward for rule in self.classes}

    def index(self, name: str) -> int:
        """The class index of a name. Raises KeyError."""
        for index, rule in enumerate(self.classes):
            if rule.name == name:
                return index
        raise KeyError(name)

    def as_json(self) -> list[dict[str, Any]]:
        """For run.json and the adapter's card."""
        return [asdict(rule) for rule in self.classes]

    @classmethod
    def from_json(cls, rules: Iterable[Mapping[str, Any]]) -> Policy:
        """What `as_json` gave."""
        return cls(tuple(ClassRule(**rule) for rule in rules))


@dataclass(frozen=True, slots=True)
class Decision:
    """A policy, or the sentences that say why there is none and which flags to add; `notes`
    are what a person should know of it."""

    policy: Policy
    faults: tuple[str, ...]
    notes: tuple[str, ...] = ()


def decide_policy(
    counts: Mapping[str, ClassCount],
    template: Template,
    rewards: Mapping[str, float],
    conditions: Mapping[str, str],
    loss: Loss = "per-token",
    *,
    own_headers: bool = False,
    places: Places = LINES,
) -> Decision:
    """The rules for the classes of the data: what the flags `rewards` and `conditions` say,
    else what the data says, else what everybody knows of a class of that name.

    With `own_headers` an expert whose condition nobody names has the role headers that the model
    knows, if its family has no condition: where data are few, training does better to begin with
    what the model can do than with a header that it never saw. `places` puts the lines of `counts`
    into words.
    """
    faults = [*_absent_classes(counts, rewards, conditions)]
    notes: list[str] = []
    rules = []
    for name, count in counts.items():
        default = _default(name, counts, template, own_headers)
        condition = _condition(name, count, conditions, default)
        reward = _reward(name, count, rewards, default)
        if len(count.conditions) > 1 and name not in conditions:
            (first, line), (second, other) = count.conditions.items()
            faults.append(
                f"The class {name!r} has two conditions, {first!r} ({places.told(line)}) and "
                f"{second!r} ({places.told(other)}); add {_flag('--condition', name, first)} or "
                "make them equal."
            )
        missing = [
            *([f"--reward {shlex.quote(name)}=NUMBER"] if reward is None else ()),
            *([f'--condition {shlex.quote(name)}="TEXT"'] if condition is None else ()),
        ]
        if missing:
            faults.append(
                f"The class {name!r} ({count.conversations:,} conversations) is not a known one: "
                f"add {' '.join(missing)}, as in {_flag('--reward', name, '0.1')} "
                f"{_flag('--condition', name, SUBOPTIMAL_CONDITION)}."
            )
        rules.append(ClassRule(name, condition or "", 0.0 if reward is None else reward))
        notes += _strange_condition(rules[-1], template)
    rules.sort(key=lambda rule: (-rule.reward, -counts[rule.name].conversations, rule.name))
    if not faults:
        faults += _unusable_conditions(rules, template)
    return Decision(Policy(tuple(rules), loss), tuple(faults), tuple(notes))


def _default(
    name: str, counts: Mapping[str, ClassCount], template: Template, own_headers: bool
) -> tuple[float, str] | None:
    """Reward and condition of a class that everybody knows."""
    if known := _known(name, template):
        reward, condition = known
        expert = own_headers and condition == EXPERT_CONDITION
        return reward, template.default_condition if expert else condition
    if name == UNLABELLED and len(counts) == 1:
        return EXPERT_REWARD, template.default_condition
    return None


def _known(name: str, template: Template) -> tuple[float, str] | None:
    expert = template.default_condition or EXPERT_CONDITION
    called = name.casefold()
    if any(fnmatchcase(called, pattern) for pattern in (*EXPERTS, expert.casefold())):
        return EXPERT_REWARD, expert
    if any(
        fnmatchcase(called, pattern) for pattern in (*SUBOPTIMAL, SUBOPTIMAL_CONDITION.casefold())
    ):
        return SUBOPTIMAL_REWARD, SUBOPTIMAL_CONDITION
    return None


def _strange_condition(rule: ClassRule, template: Template) -> Iterator[str]:
    """A condition that means what the model was trained with, in words that it was not."""
    known = _known(rule.condition, template) if template.default_condition else None
    if known and known[1] != rule.condition:
        yield (
            f"The class {rule.name!r} is trained under the condition {rule.condition!r}; the "
            f"model itself learned {known[1]!r}, which "
            f"{_flag('--condition', rule.name, known[1])} would build on."
        )


def _condition(
    name: str, count: ClassCount, flags: Mapping[str, str], default: tuple[float, str] | None
) -> str | None:
    if name in flags:
        return flags[name].strip()
    if count.conditions:
        return next(iter(count.conditions))
    return default[1] if default else None


def _reward(
    name: str, count: ClassCount, flags: Mapping[str, float], default: tuple[float, str] | None
) -> float | None:
    if name in flags:
        return flags[name]
    if count.unweighted == 0 and count.own_turns:
        return count.own_weights / count.own_turns  # all say it themselves
    if default:
        return default[0]
    return None if count.unweighted else 0.0


def _absent_classes(
    counts: Mapping[str, ClassCount], rewards: Mapping[str, float], conditions: Mapping[str, str]
) -> Iterator[str]:
    for flag, values in (("--reward", rewards), ("--condition", conditions)):
        for name in values:
            if name not in counts:
                yield (
                    f"No conversation has the class {name!r} of {flag}; "
                    f"the data has {', '.join(map(repr, counts)) or 'none'}."
                )
    for name, reward in rewards.items():
        if not (math.isfinite(reward) and reward >= 0):
            yield f"The reward of {name!r} is {reward}; it must be a number from 0 up."


def _unusable_conditions(rules: Sequence[ClassRule], template: Template) -> Iterator[str]:
    blank = [rule for rule in rules if not rule.condition]
    if blank == [*rules[: len(blank)]] and not template.default_condition:
        blank = []  # the best ones are served as they are trained: with this model's own headers
    for rule in blank if len(blank) < len(rules) else ():
        # The paper's code trains a blank condition and serves another: never both.
        yield (
            f"The class {rule.name!r} has no condition while others have one: "
            f'add --condition {shlex.quote(rule.name)}="TEXT".'
        )
    for rule in rules:
        probe = (Message("user", "x"), Message("assistant", "x"))
        try:
            ids = template.render(Conversation(probe, rule.condition)).ids
        except TemplateError as error:
            yield f"The class {rule.name!r} cannot be trained: {error}"
            continue
        if rule.condition and ids == template.render(Conversation(probe, "")).ids:
            yield (
                f"The model's own template has no place for the condition of {rule.name!r}, "
                f"{rule.condition!r}: choose a family's with --template, or none for every class "
                f"with {_flag('--condition', rule.name, '')}."
            )


def _flag(flag: str, name: str, value: str) -> str:
    return f"{flag} {shlex.quote(f'{name}={value}')}"
