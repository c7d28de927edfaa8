"""The data of an ablation: one split for every row, and for every recipe a file of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openchat_local.finetune.data.batches import Row
from openchat_local.finetune.data.crlft import weigh
from openchat_local.finetune.data.example import Example
from openchat_local.finetune.data.options import DataOptions
from openchat_local.finetune.data.policy import ClassRule, Policy
from openchat_local.finetune.data.prepare import read_conversations
from openchat_local.finetune.data.rows import RowStore, RowWriter
from openchat_local.finetune.evaluation.ablation.recipes import (
    AblationError,
    Recipe,
    check_classes,
)
from openchat_local.models.template import Template


@dataclass(frozen=True, slots=True)
class MixedData:
    """Conversations of an expert and of others: those to train on and those held out. `tokens`
    is the length of all that is trained on together, `digests` as in `Conversations`."""

    policy: Policy
    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    tokens: int
    digests: dict[str, str]
    notes: tuple[str, ...]

    @property
    def own_weights(self) -> bool:
        """Whether some replies to train on say themselves what they are worth, but for 0."""
        return any(weight for one in self.train for weight in one.reply_weights())

    @property
    def conditions(self) -> tuple[str, ...]:
        """Those of the classes, the expert's first, each once."""
        return tuple(dict.fromkeys(rule.condition for rule in self.policy.classes))


def read_mixed(path: Path, options: DataOptions, template: Template, context: int) -> MixedData:
    """Read `path`, and the validation file where the options name one.

    Raises DataError, or AblationError where there are not two classes to compare or no answer
    of the expert is held out.
    """
    found = read_conversations(path, options, template)
    check_classes(found.policy, path)
    trained = {_said(example) for example in found.train}
    held_out = tuple(example for example in found.validation if _said(example) not in trained)
    notes = list(found.notes)
    if again := len(found.validation) - len(held_out):
        notes.append(f"Held out but trained on as well, and so not measured: {again:,}.")
    for rule in found.policy.classes:
        _check_split(rule, found.train, held_out, path, options, expert=rule == found.policy.expert)
    weighed = [weigh(example, found.policy, template, context) for example in found.train]
    tokens = sum(len(one.row.ids) for one in weighed if one.row is not None)
    if cut := sum(one.truncated for one in weighed):
        notes.append(f"{cut:,} conversations are cut after {context:,} tokens.")
    return MixedData(found.policy, found.train, held_out, tokens, dict(found.digests), tuple(notes))


def _said(example: Example) -> tuple[tuple[str, str], ...]:
    return tuple((message.role, message.content) for message in example.messages)


def _check_split(
    rule: ClassRule,
    train: Sequence[Example],
    held_out: Sequence[Example],
    path: Path,
    options: DataOptions,
    *,
    expert: bool,
) -> None:
    """Raise AblationError where a class cannot be learned, or the expert's not be measured."""
    if all(example.class_name != rule.name for example in train):
        raise AblationError(
            f"No conversation of the class {rule.name!r} is left to train on in {path}: name a "
            "file with more, or hold less out with --held-out."
        )
    if expert and all(example.class_name != rule.name for example in held_out):
        where = options.validation or path
        raise AblationError(
            f"No answer of the expert's class {rule.name!r} is held out, and every row is measured "
            f"on those: "
            + (
                f"name a file with some by --val instead of {where}."
                if options.validation
                else f"hold more of {where} out with --held-out, or name a file with --val."
            )
        )


# What is trained on


def chosen(data: MixedData, recipe: Recipe) -> list[Example]:
    """The conversations that a recipe is trained on, in their order in the file.

    Of a class that is not the expert's, the share whose hashes are lowest: a smaller share is a
    part of a larger one, the same for every seed.
    """
    names = {rule.name for rule in recipe.rules}
    left_out: set[tuple[int, int]] = set()  # a row may hold several conversations
    for rule in recipe.rules[1:]:
        own = [one for one in data.train if one.class_name == rule.name]
        own.sort(key=_hash)
        left_out |= {one.place for one in own[max(1, round(recipe.share * len(own))) :]}
    return [one for one in data.train if one.class_name in names and one.place not in left_out]


def _hash(example: Example) -> bytes:
    return hashlib.sha256(repr(_said(example)).encode("utf-8", "surrogatepass")).digest()


def as_lines(examples: Iterable[Example], *, own_weights: bool) -> bytes:
    """JSONL of `examples`; without `own_weights` their own are left away, except for 0."""
    lines = (json.dumps(_as_json(one, own_weights)) + "\n" for one in examples)
    return "".join(lines).encode()


def _as_json(example: Example, own_weights: bool) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    for number, message in enumerate(example.messages):
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        weight = example.weights[number] if own_weights else None
        if message.role == "assistant" and example.own_weight(number) == 0:
            weight = 0
        messages.append(turn if weight is None else turn | {"weight": weight})
    line = {"messages": messages, "class": example.class_name}
    return line | {"reward": example.reward} if own_weights and example.reward else line


def options_of(recipe: Recipe, options: DataOptions) -> DataOptions:
    """How the file of a recipe is read: its rules, and nothing held out of it."""
    return DataOptions(
        rewards={rule.name: rule.reward for rule in recipe.rules},
        conditions={rule.name: rule.condition for rule in recipe.rules},
        held_out=0.0,
        loss=options.loss,
    )


# What is measured


def write_held_out(data: MixedData, template: Template, context: int, folder: Path) -> int:
    """Write the held-out conversations into `folder`, a store of rows for every condition, named
    by its number; how many cannot be measured, since they answer only after `context` tokens.

    Every answer counts alike, whatever its reward; a row's class is the conversation's number
    among the held-out ones.
    """
    lost = 0
    for number, condition in enumerate(data.conditions):
        rules = tuple(ClassRule(rule.name, condition, 1.0) for rule in data.policy.classes)
        with RowWriter(folder / str(number)) as writer:
            for index, example in enumerate(data.held_out):
                row = weigh(example, Policy(rules), template, context).row
                if row is None:
                    lost += number == 0
                    continue
                judged = (row.weights > 0).astype(row.weights.dtype)
                writer.append(Row(row.ids, judged, index, row.line))
    if not len(RowStore(folder / "0")):
        raise AblationError(
            f"None of the held-out answers begins within {context:,} tokens: keep more with "
            "--max-length."
        )
    return lost
