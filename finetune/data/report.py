"""What there is to train on: the figures a person looks at before they train."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from openchat_local.finetune.data.crlft import Weighed
from openchat_local.finetune.data.example import Example
from openchat_local.finetune.data.policy import ClassRule, Policy
from openchat_local.finetune.data.scores import EXAMPLE
from openchat_local.finetune.data.worth import SCORES

# Fields, of a line or of a turn, without which an answer may mean something else.
TELLING = frozenset(
    {
        *("tools", "functions", "tool_calls", "function_call", "tool_call_id"),
        *("chosen", "rejected", "label", "kto_tag", "rating", "score", "overall_score", "rank"),
        *("image", "image_url", "input_image", "input_audio", "file"),
        *("images", "videos", "audios", "audio", "reasoning_content", "thinking", "refusal"),
        *("train", "loss", "mask", "system_prompt", "context", "messages", "conversations"),
        *("items", "instruction", "input", "output", "history", "prompt", "completion"),
    }
)


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens a conversation, before truncation: median, 95th percentile, longest."""

    p50: int
    p95: int
    max: int


@dataclass(frozen=True, slots=True)
class ClassReport:
    """One class among the rows that are trained on.

    `share` is of the conversations, `weight_share` of Σw, which is what the class counts
    in the loss; `mean_weight` is that of a supervised token: the effective reward, between
    `least_weight` and `greatest_weight`.
    """

    rule: ClassRule
    conversations: int
    share: float
    tokens: int
    supervised_tokens: int
    mean_weight: float
    weight_share: float
    least_weight: float = 0.0
    greatest_weight: float = 0.0


@dataclass(frozen=True, slots=True)
class SplitReport:
    """Training or validation data. `tokens` and everything a class are of the rows kept;
    `dropped` counts conversations by reason, duplicates are apart from them;
    `longest_dropped` is in tokens."""

    file: str
    conversations: int
    turns: int
    tokens: int
    supervised_tokens: int
    classes: tuple[ClassReport, ...]
    lengths: Lengths
    truncated: int
    dropped: Mapping[str, int]
    duplicates: int
    longest_dropped: int = 0


@dataclass(frozen=True, slots=True)
class DataReport:
    """All that is known of the data. `overlap` counts validation conversations that are
    trained on, too; `bad_lines` those that `--skip-bad` left out, listed in `faults`;
    `ignored` the fields that nothing was made of, by name, and `remarks` are sentences on
    what was decided, `taken` on what the files were taken for. `system_prompt` is that of most of
    the best class's conversations."""

    train: SplitReport
    validation: SplitReport
    formats: Mapping[str, int]
    overlap: int
    bad_lines: int
    faults: tuple[str, ...]
    context: int
    template: str
    digests: Mapping[str, str]
    ignored: Mapping[str, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    system_prompt: str = ""
    templated: int = 0  # conversations whose text already has role headers in it
    taken: tuple[str, ...] = ()

    @property
    def one_class(self) -> bool:
        """Whether one class alone has weight."""
        return sum(report.weight_share > 0 for report in self.train.classes) < 2

    @property
    def plain_sft(self) -> bool:
        """Whether one class alone has weight, and one weight, which cancels out of the loss."""
        return self.one_class and all(
            one.least_weight == one.greatest_weight for one in self.train.classes
        )

    def notes(self) -> list[str]:
        """Sentences that nobody should miss."""
        notes = [*self._kind_of_training(), *self.remarks, *ignored_notes(self.ignored)]
        if self.one_class:
            notes += score_notes(self.ignored)
        if cut := self.train.truncated + self.validation.truncated:
            notes.append(
                f"Longer than the context of {self.context:,} tokens and cut there: {cut:,} "
                f"of {self.train.conversations + self.validation.conversations:,} conversations."
            )
        if self.overlap:
            notes.append(
                f"Of the validation conversations, {self.overlap:,} are trained on, too: "
                "the validation loss will look better than it is."
            )
        if not self.validation.conversations:
            notes.append(
                "Nothing is held out for validation: name a file with --val, or hold out more "
                "with --held-out."
            )
        if self.templated:
            notes.append(
                "Written out by a chat template before (`<|im_start|>user`, `[INST]`): the text of "
                f"{self.templated:,} conversations. The model learns such marks as text: give the "
                "bare messages, if they are not meant so."
            )
        if self.bad_lines:
            notes.append(f"Bad lines, left out: {self.bad_lines:,}.")
        return notes

    def _kind_of_training(self) -> Iterator[str]:
        if not self.one_class:
            return
        (one,) = (one for one in self.train.classes if one.weight_share > 0)
        if self.plain_sft:
            yield (
                f"This is plain SFT, not C-RLFT: {one.rule.name!r} is the only class, "
                "and with one class the reward has no effect."
            )
        else:
            yield (
                f"{one.rule.name!r} is the only class, so there is no condition to tell answers "
                f"by; the rows' own weights, {one.least_weight:.3g} to "
                f"{one.greatest_weight:.3g}, do count."
            )

    def as_json(self) -> dict[str, Any]:
        """For run.json."""
        return asdict(self) | {"plain_sft": self.plain_sft, "notes": self.notes()}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> DataReport:
        """What `as_json` gave."""
        own = {name: fields[name] for name in cls.__dataclass_fields__ if name in fields}
        splits = {name: _split_from_json(fields[name]) for name in ("train", "validation")}
        texts = {name: tuple(fields.get(name, ())) for name in ("faults", "remarks", "taken")}
        return cls(**own | splits | texts)


def ignored_notes(ignored: Mapping[str, int]) -> Iterator[str]:
    """What fields are not read, by name: those that tell something of an answer first."""
    telling = {n: c for n, c in ignored.items() if n.rpartition(".")[2] in TELLING}
    if telling:
        yield f"Not learned, though it may change what an answer means: {_counted(telling)}."
    if rest := {name: count for name, count in ignored.items() if name not in telling}:
        yield f"Fields that are not used: {_counted(rest)}."


def score_notes(ignored: Mapping[str, int]) -> Iterator[str]:
    """That a number which is not read may say how good answers are, where nothing else does."""
    scores = [own for name in ignored if (own := name.rpartition(".")[2]) in SCORES]
    if scores:
        yield (
            f"If {scores[0]} says how good an answer is, --class-field {scores[0]} --classes "
            f'"{EXAMPLE}" makes classes of it, and --reward-field {scores[0]} rewards.'
        )


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in counts.items())


def _split_from_json(fields: Mapping[str, Any]) -> SplitReport:
    classes = tuple(
        ClassReport(**dict(one) | {"rule": ClassRule(**one["rule"])}) for one in fields["classes"]
    )
    lengths = Lengths(**fields["lengths"])
    return SplitReport(**dict(fields) | {"classes": classes, "lengths": lengths})


@dataclass(slots=True)
class _ClassTally:
    conversations: int = 0
    tokens: int = 0
    supervised_tokens: int = 0
    weight: float = 0.0
    least: float = math.inf
    greatest: float = 0.0


@dataclass(slots=True)
class Tally:
    """Counts one split while its conversations are weighed."""

    policy: Policy
    turns: int = 0
    truncated: int = 0
    duplicates: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    longest_dropped: int = 0
    _lengths: array[int] = field(default_factory=lambda: array("q"))
    _classes: dict[int, _ClassTally] = field(default_factory=dict)

    def add(self, example: Example, weighed: Weighed) -> None:
        """Count one conversation that is not a duplicate."""
        if weighed.row is None:
            self.dropped[str(weighed.dropped)] += 1
            if weighed.truncated:
                self.longest_dropped = max(self.longest_dropped, weighed.tokens)
            return
        self.turns += len(example.messages)
        self.truncated += weighed.truncated
        self._lengths.append(weighed.tokens)
        tally = self._classes.setdefault(weighed.row.class_index, _ClassTally())
        tally.conversations += 1
        tally.tokens += len(weighed.row.ids)
        own = weighed.row.weights[weighed.row.weights > 0]
        tally.supervised_tokens += len(own)
        tally.least = min(tally.least, float(own.min()))
        tally.greatest = max(tally.greatest, float(own.max()))
        tally.weight += float(weighed.row.weights.sum(dtype=np.float64))

    def report(self, file: str) -> SplitReport:
        """The figures, once all are counted."""
        tallies = self._classes.values()
        conversations = len(self._lengths)
        weight = sum(tally.weight for tally in tallies)
        p50, p95, longest = (
            np.percentile(self._lengths, [50, 95, 100], method="higher")
            if conversations
            else [0] * 3
        )
        return SplitReport(
            file=file,
            conversations=conversations,
            turns=self.turns,
            tokens=sum(tally.tokens for tally in tallies),
            supervised_tokens=sum(tally.supervised_tokens for tally in tallies),
            classes=tuple(
                ClassReport(
                    rule=self.policy.classes[index],
                    conversations=tally.conversations,
                    share=tally.conversations / conversations,
                    tokens=tally.tokens,
                    supervised_tokens=tally.supervised_tokens,
                    mean_weight=tally.weight / tally.supervised_tokens,
                    weight_share=tally.weight / weight,
                    least_weight=tally.least,
                    greatest_weight=tally.greatest,
                )
                for index, tally in sorted(self._classes.items())
            ),
            lengths=Lengths(int(p50), int(p95), int(longest)),
            truncated=self.truncated,
            dropped=dict(self.dropped),
            duplicates=self.duplicates,
            longest_dropped=self.longest_dropped,
        )
