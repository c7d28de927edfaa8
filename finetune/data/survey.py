"""The first pass over a file: what is wrong, which classes there are, what is double.

Nothing of a conversation is kept but its digests (24 bytes), so that a file of any size
fits. The second pass tokenises what `Survey.kept` lets through.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from openchat_local.finetune.data.faults import DataError, Fault, Faults
from openchat_local.finetune.data.formats import Example, read_example
from openchat_local.finetune.data.lines import read_lines, unit_of
from openchat_local.models.conversation import Conversation, Message, Role
from openchat_local.models.errors import TemplateError
from openchat_local.models.template import Template

MAX_CLASSES = 64
# Of every class that has ten times as many: the best checkpoint is chosen by them.
LEAST_HELD_OUT = 8

Check = Callable[[Example], Fault | None]


@dataclass(slots=True)
class ClassCount:
    """What a file says of one class.

    `conditions` are the texts that its lines give and where each came first; `unweighted`
    the conversations that need the class's reward, because some assistant turn has no
    weight of its own; `own_weights` the sum over `own_turns` assistant turns that have one.
    """

    conversations: int = 0
    conditions: dict[str, int] = field(default_factory=dict)
    unweighted: int = 0
    own_weights: float = 0.0
    own_turns: int = 0

    def add(self, example: Example) -> None:
        """Count one conversation of the class."""
        self.conversations += 1
        if example.condition is not None and len(self.conditions) < 2:
            self.conditions.setdefault(example.condition, example.line)
        own = [
            example.own_weight(index)
            for index, message in enumerate(example.messages)
            if message.role == "assistant"
        ]
        self.unweighted += None in own
        given = [weight for weight in own if weight is not None]
        self.own_weights += sum(given)
        self.own_turns += len(given)


@dataclass(slots=True)
class Survey:
    """A file after its first pass; `digest` is SHA-256 (hex) over its good conversations.

    `contents` (conversations, 2) uint64 tells equal conversations, `openings`
    (conversations,) uint64 those that begin with the same question; `labels`
    (conversations,) uint8 are the places of their classes in `classes`; in file order.
    """

    path: Path
    faults: Faults
    classes: dict[str, ClassCount]
    formats: Counter[str]
    contents: np.ndarray
    openings: np.ndarray
    labels: np.ndarray
    digest: str

    @property
    def conversations(self) -> int:
        """Good ones, duplicates included."""
        return len(self.openings)

    def kept(self) -> np.ndarray:
        """(conversations,) bool: the first of every set of equal conversations."""
        first = np.zeros(len(self.contents), bool)
        first[np.unique(self.contents, axis=0, return_index=True)[1]] = True
        return first

    def held_out(self, share: float) -> np.ndarray:
        """(conversations,) bool: about `share` of them, for validation.

        It hangs on the opening alone, up to the first reply: whatever else is in the file
        and in whatever order, and two answers to one question are never parted. Only a
        class of which that leaves too few to measure gets more, the next by the same hash: a
        tenth of it or LEAST_HELD_OUT, whichever is less.
        """
        bound = np.uint64(min(share, 1 - 2**-53) * 2**64)
        chosen = self.openings < bound
        for label in np.unique(self.labels) if share else ():
            own = np.sort(self.openings[self.labels == label])
            least = min(LEAST_HELD_OUT, len(own) // 10)
            if np.count_nonzero(own < bound) < least:
                chosen |= np.isin(self.openings, own[:least])
        return chosen

    def also_in(self, other: Survey) -> np.ndarray:
        """(conversations,) bool: those that `other` has, too."""
        both = np.concatenate([self.contents, other.contents])
        label = np.unique(both, axis=0, return_inverse=True)[1].reshape(-1)
        return np.isin(label[: len(self.contents)], label[len(self.contents) :])


def survey(path: Path, class_field: str | None, check: Check) -> Survey:
    """Read all of `path` once. `check` finds faults that hang on the model.

    Raises DataError if the file cannot be read or its classes are too many to be classes.
    """
    faults, formats = Faults(path, unit=unit_of(path)), Counter[str]()
    classes: dict[str, ClassCount] = {}
    contents, openings, labels = bytearray(), bytearray(), bytearray()
    digest = hashlib.sha256()
    for found in read_examples(path, class_field, check):
        if not isinstance(found, Example):
            faults.add(found)
            continue
        classes.setdefault(found.class_name, ClassCount()).add(found)
        if len(classes) > MAX_CLASSES:
            raise _too_many_classes(path, class_field)
        labels.append(list(classes).index(found.class_name))
        formats[found.format] += 1
        content, opening = _digests(found.messages)
        contents += content
        openings += opening
        digest.update(content)
        digest.update(
            repr((found.class_name, found.condition, found.weights, found.reward)).encode()
        )
    if not formats and not faults:
        faults.add([Fault(0, "", "holds no conversation")])
    return Survey(
        path,
        faults,
        classes,
        formats,
        np.frombuffer(contents, "<u8").reshape(-1, 2),
        np.frombuffer(openings, "<u8"),
        np.frombuffer(labels, np.uint8),
        digest.hexdigest(),
    )


def read_examples(
    path: Path, class_field: str | None, check: Check
) -> Iterator[Example | list[Fault]]:
    """Every conversation of the file in order, or the faults of its line."""
    for line in read_lines(path):
        if isinstance(line, Fault):
            yield [line]
            continue
        example = read_example(line, class_field)
        fault = check(example) if isinstance(example, Example) else None
        yield example if fault is None else [fault]


def template_check(template: Template) -> Check:
    """Finds conversations whose order of turns `template` cannot write."""

    @lru_cache(maxsize=4096)
    def refusal(roles: tuple[Role, ...]) -> str | None:
        try:
            template.render(Conversation(tuple(Message(role, "x") for role in roles)))
        except TemplateError as error:
            return str(error)
        return None

    def check(example: Example) -> Fault | None:
        reason = refusal(tuple(message.role for message in example.messages))
        return Fault(example.line, "", "cannot be written", reason) if reason else None

    return check


def _digests(messages: tuple[Message, ...]) -> tuple[bytes, bytes]:
    """16 bytes that tell a conversation, 8 that tell how it opens."""
    digest = hashlib.blake2b(digest_size=16)
    opening: bytes | None = None
    asked = False
    for message in messages:
        if message.role == "assistant" and asked and opening is None:
            opening = digest.copy().digest()[:8]
        asked |= message.role == "user"
        text = message.content.encode("utf-8", "surrogatepass")
        digest.update(f"{message.role}:{len(text)}:".encode())
        digest.update(text)
    content = digest.digest()
    return content, content[:8] if opening is None else opening


def _too_many_classes(path: Path, class_field: str | None) -> DataError:
    source = f"--class-field {class_field}" if class_field else '"class" or "condition"'
    return DataError(
        f"{path} has more than {MAX_CLASSES} classes by {source}: name a field that says who "
        "answered, or how well, with --class-field."
    )
