"""The first pass over a file: what is wrong, which classes there are, what is double.

Nothing of a conversation is kept but its digests (24 bytes), so that a file of any size
fits. The second pass tokenises what `Survey.kept` lets through.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from openchat_local.finetune.data.example import Example
from openchat_local.finetune.data.examples import Check, read_examples, with_span
from openchat_local.finetune.data.faults import DataError, Fault, Faults
from openchat_local.finetune.data.formats import columns_read
from openchat_local.finetune.data.lines import container_of
from openchat_local.finetune.data.reading import PLAIN, Reading
from openchat_local.finetune.data.scores import EXAMPLE
from openchat_local.finetune.data.taken import taken_for
from openchat_local.finetune.data.templated import is_templated
from openchat_local.models.conversation import Message

MAX_CLASSES = 64
MAX_SYSTEM_PROMPTS = 256  # that are told apart: one of most conversations is among the first
MAX_SYSTEM_PROMPT = 2**15  # characters
MAX_IGNORED = 32  # names of fields that are told apart; more are counted together
OTHER_FIELDS = "others"


@dataclass(slots=True)
class ClassCount:
    """What a file says of one class.

    `conditions` are the texts that its lines give and where each came first; `unweighted`
    the conversations that need the class's reward, because some assistant turn has no
    weight of its own; `own_weights` the sum over the `own_turns` assistant turns whose own
    weight is above 0 (0 says "context only", and nothing of the class).
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
        own = example.reply_weights()
        self.unweighted += None in own
        given = [weight for weight in own if weight]
        self.own_weights += sum(given)
        self.own_turns += len(given)


@dataclass(frozen=True, slots=True)
class Conflict:
    """Equal conversations of unequal worth or class: the line that is kept, and one of those
    that are left out for it."""

    kept: int
    left_out: int


@dataclass(slots=True)
class Survey:
    """A file after its first pass; `digest` is SHA-256 (hex) over its good conversations.

    In file order, one entry a conversation: `contents` (conversations, 2) uint64 tells equal
    ones, `openings` uint64 those that begin with the same question; `labels` uint8 are the
    places of their classes in `classes`, `lines` int64 where they stand; `own_weights`
    float64 is the sum of what their assistant turns weigh by themselves, `bare_turns` int64
    the number of assistant turns that their class has to weigh. `ignored` counts the fields
    that no conversation is made of, by name, `system_prompts` the first few by class and text.
    `reading` is how the rows were read, `remarks` what was read otherwise than it is written, and
    `taken` says in a sentence a format what the file was taken for; `splits` are others of its
    folder.
    """

    path: Path
    faults: Faults
    classes: dict[str, ClassCount]
    formats: Counter[str]
    ignored: Counter[str]
    system_prompts: Counter[tuple[str, str]]
    contents: np.ndarray
    openings: np.ndarray
    labels: np.ndarray
    lines: np.ndarray
    own_weights: np.ndarray
    bare_turns: np.ndarray
    digest: str
    templated: int = 0  # conversations whose text already has role headers in it
    reading: Reading = PLAIN
    remarks: Counter[str] = field(default_factory=Counter)
    taken: tuple[str, ...] = ()
    splits: tuple[Path, ...] = ()

    @property
    def conversations(self) -> int:
        """Good ones, duplicates included."""
        return len(self.openings)

    def kept(self, rewards: Mapping[str, float]) -> np.ndarray:
        """(conversations,) bool: of every set of equal conversations the one that is worth
        most with these `rewards` of the classes, the first of those."""
        order, begins = self._equals(rewards)
        kept = np.zeros(self.conversations, bool)
        kept[order[begins]] = True
        return kept

    def conflicts(self, rewards: Mapping[str, float]) -> list[Conflict]:
        """The sets of equal conversations that are not of one worth and class, in file order."""
        order, begins = self._equals(rewards)
        if not len(order):
            return []
        best = order[np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))]
        worth = self._worth(rewards)
        differs = (worth[order] != worth[best]) | (self.labels[order] != self.labels[best])
        pairs = dict(zip(best[differs][::-1].tolist(), order[differs][::-1].tolist(), strict=True))
        return [Conflict(int(self.lines[a]), int(self.lines[b])) for a, b in sorted(pairs.items())]

    def _equals(self, rewards: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
        """Conversation numbers with equals side by side, best first; and where sets begin."""
        numbers = np.arange(self.conversations)
        high, low = self.contents[:, 0], self.contents[:, 1]
        order = np.lexsort((numbers, -self._worth(rewards), low, high))
        begins = np.ones(len(order), bool)
        begins[1:] = (self.contents[order][1:] != self.contents[order][:-1]).any(1)
        return order, begins

    def _worth(self, rewards: Mapping[str, float]) -> np.ndarray:
        """(conversations,) float64: the weights of its assistant turns, summed."""
        reward = np.array([rewards[name] for name in self.classes], np.float64)
        return self.own_weights + self.bare_turns * (reward[self.labels] if len(reward) else 0.0)

    def also_in(self, other: Survey) -> np.ndarray:
        """(conversations,) bool: those that `other` has, too."""
        both = np.concatenate([self.contents, other.contents])
        label = np.unique(both, axis=0, return_inverse=True)[1].reshape(-1)
        return np.isin(label[: len(self.contents)], label[len(self.contents) :])


def survey(path: Path, reading: Reading, check: Check) -> Survey:
    """Read all of `path` once; where rewards hang on the lowest and the highest score, twice.
    `check` finds faults that hang on the model.

    Raises DataError if the file cannot be read or its classes are too many to be classes.
    """
    reading = with_span(path, reading, check)
    container = container_of(path, columns_read(reading))
    faults, formats = Faults(path, places=container.places), Counter[str]()
    classes: dict[str, ClassCount] = {}
    ignored, system_prompts = Counter[str](), Counter[tuple[str, str]]()
    contents, openings, labels = bytearray(), bytearray(), bytearray()
    lines, own_weights, bare_turns = array("q"), array("d"), array("q")
    digest = hashlib.sha256()
    templated, rows = 0, 0
    remarks = Counter[str]()
    for found in read_examples(path, reading, check):
        if not isinstance(found, Example):
            faults.add(found)
            continue
        classes.setdefault(found.class_name, ClassCount()).add(found)
        if len(classes) > MAX_CLASSES:
            raise _too_many_classes(path, reading)
        labels.append(list(classes).index(found.class_name))
        rows += found.part == 0
        formats[found.format] += 1
        remarks.update(found.remarks)
        _count_ignored(ignored, found.ignored)
        _count_system_prompt(system_prompts, found)
        lines.append(found.line)
        own = found.reply_weights()
        own_weights.append(math.fsum(weight or 0.0 for weight in own))
        bare_turns.append(own.count(None))
        templated += is_templated(found.messages)
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
        ignored,
        system_prompts,
        np.frombuffer(contents, "<u8").reshape(-1, 2),
        np.frombuffer(openings, "<u8"),
        np.frombuffer(labels, np.uint8),
        np.array(lines, np.int64),
        np.array(own_weights, np.float64),
        np.array(bare_turns, np.int64),
        digest.hexdigest(),
        templated,
        reading,
        remarks,
        tuple(taken_for(path, container, reading, formats, rows, {*classes})),
        container.others,
    )


def _count_ignored(counts: Counter[str], fields: Iterable[str]) -> None:
    for name in fields:
        counts[name if name in counts or len(counts) < MAX_IGNORED else OTHER_FIELDS] += 1


def _count_system_prompt(counts: Counter[tuple[str, str]], example: Example) -> None:
    key = example.class_name, example.system_prompt
    if key in counts or (len(counts) < MAX_SYSTEM_PROMPTS and len(key[1]) <= MAX_SYSTEM_PROMPT):
        counts[key] += 1


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


def _too_many_classes(path: Path, reading: Reading) -> DataError:
    field = reading.class_field
    source = f"--class-field {field}" if field else '"class" or "condition"'
    return DataError(
        f"{path} has more than {MAX_CLASSES} classes by {source}: name a field that says who "
        f"answered, or how well, with --class-field; if it is a number, make classes of it with "
        f'--classes "{EXAMPLE}".'
    )
