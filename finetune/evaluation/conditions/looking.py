"""All that is measured of one contender, and what of it is still to be done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from openchat_local.finetune.evaluation.conditions.figures import (
    Seen,
    own_conditions,
    trained_conditions,
)
from openchat_local.finetune.evaluation.conditions.places import Unplaced, vectors_of
from openchat_local.finetune.evaluation.conditions.readings import Unread
from openchat_local.finetune.evaluation.conditions.side_by_side import Prompt, Unwritten, Written
from openchat_local.finetune.evaluation.contender import Contender
from openchat_local.finetune.evaluation.losses.answers import Answers
from openchat_local.models.engine.protocol import Engine
from openchat_local.models.library.adapter_file import AdapterCard
from openchat_local.models.template import Template

# A token that is written takes about as long as so many that are read.
_WRITTEN_AS_READ = 4

Tell = Callable[[str, int], None]  # what is being done, and how much of it was just done


@dataclass(frozen=True, slots=True)
class Kept:
    """Where what is known of a contender is kept: `readings`, `places`, and what it `wrote`."""

    readings: Path
    places: Path
    wrote: Path


@dataclass(frozen=True, slots=True)
class Wanted:
    """What every contender is asked: `top` of the likeliest tokens at each position of the
    `answers`, and an answer to each of `prompts`, of at most `max_tokens`."""

    answers: Answers
    prompts: Sequence[Prompt]
    template: Template
    top: int
    max_tokens: int


class Look:
    """What is wanted of one contender. `cost` is what is still to be done, in tokens that go
    through the model or are as dear."""

    def __init__(
        self, contender: Contender, card: AdapterCard | None, wanted: Wanted, kept: Kept
    ) -> None:
        self.contender, self._wanted, self._kept = contender, wanted, kept
        answers = wanted.answers
        self._trained = trained_conditions(answers, card)
        self._own = own_conditions(answers, card)
        self._under = [self._own[index] for index in answers.classes.tolist()]
        self._together = [answers.conditions[0]] * len(answers.classes)
        self._unread = Unread(answers, kept.readings, wanted.top)
        both = [{own, same} for own, same in zip(self._under, self._together, strict=True)]
        self._unplaced = Unplaced(answers, kept.places, both, wanted.template.stop_ids)
        self._unwritten = Unwritten(
            wanted.prompts, answers.conditions, kept.wrote, wanted.max_tokens
        )
        self._dear = wanted.max_tokens * _WRITTEN_AS_READ  # an answer
        self.cost = self._unread.tokens + self._unplaced.tokens + len(self._unwritten) * self._dear

    def see(self, engine: Engine, tell: Tell) -> Seen:
        """Do what is left, and keep each part of it as soon as it is done.

        Raises ReadingError, EngineError and RowsUnwritten.
        """
        label, choice = self.contender.label, self.contender.choice
        answers, places = self._wanted.answers, self._kept.places
        readings = self._unread.read(engine, choice, lambda n: tell(f"scoring by {label}", n))
        self._unplaced.place(engine, choice, lambda n: tell(f"embedding by {label}", n))
        self._unwritten.write(engine, choice, lambda n: tell(f"answers by {label}", n * self._dear))
        return Seen(
            label,
            self.contender.is_base,
            self._trained,
            self._own,
            readings,
            vectors_of(answers, places, self._under),
            vectors_of(answers, places, self._together),
        )

    def written(self) -> dict[tuple[Prompt, str], Written]:
        """What it wrote, by prompt and condition."""
        return self._unwritten.written()
