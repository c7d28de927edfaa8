"""Held-out answers under every condition: how likely they are, and how much the distributions of
their tokens differ from one condition to another."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openchat_local.finetune.evaluation.conditions.divergence import Tops, divergences
from openchat_local.finetune.evaluation.losses.answers import Answers
from openchat_local.finetune.evaluation.losses.by_engine import requests_of
from openchat_local.finetune.evaluation.losses.figures import Nats
from openchat_local.finetune.evaluation.rows import RowFile, digest_of
from openchat_local.models.engine.protocol import AdapterChoice, Engine, Score, ScoreRequest
from openchat_local.models.errors import OpenChatError

Pair = tuple[str, str]
Advance = Callable[[int], None]  # so many tokens more are done

# The likeliest tokens of a position are some kilobytes, which all positions of a call may hold.
_TOKENS_A_CALL = 2**12


class ReadingError(OpenChatError):
    """A model that gives no numbers."""


@dataclass(frozen=True, slots=True)
class Readings:
    """What one contender makes of the answers. `between` has for every two conditions
    (conversations, 5) float64: the figures of a `Divergence`, summed over the judged tokens."""

    nats: Nats
    between: Mapping[Pair, np.ndarray]


class Unread:
    """The conversations of which a contender's readings are not in the file at `path` yet."""

    def __init__(self, answers: Answers, path: Path, top: int) -> None:
        """`top` of the likeliest tokens are known at each position."""
        self._answers, self._path, self._top = answers, path, top
        count = len(answers.classes)
        self._keys = [
            digest_of([[answers.digests[c][n] for c in answers.conditions], top])
            for n in range(count)
        ]
        known = self._known()
        # Equal conversations of two classes are read once.
        first = {key: n for n, key in reversed([*enumerate(self._keys)])}
        self.numbers = [
            n for n, key in enumerate(self._keys) if key not in known and first[key] == n
        ]

    @property
    def tokens(self) -> int:
        """Those that are to go through the model, under all conditions."""
        return sum(map(self._length, self.numbers))

    def read(self, engine: Engine, choice: AdapterChoice, advance: Advance) -> Readings:
        """Read them, keep each as soon as it is known, and give back all.

        Raises ReadingError, EngineError and RowsUnwritten.
        """
        with RowFile(self._path) as file:
            for numbers in self._calls():
                for number, row in self._call(engine, choice, numbers):
                    file.append({"key": self._keys[number], **row})
                    advance(self._length(number))
        return self._readings()

    def _calls(self) -> Iterator[list[int]]:
        call: list[int] = []
        tokens = 0
        for number in self.numbers:
            call.append(number)
            tokens += self._length(number)
            if tokens >= _TOKENS_A_CALL:
                yield call
                call, tokens = [], 0
        if call:
            yield call

    def _call(
        self, engine: Engine, choice: AdapterChoice, numbers: Sequence[int]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """The row of each conversation, as soon as all of it was scored."""
        conditions = self._answers.conditions
        top = self._top if len(conditions) > 1 else 0
        requests: list[ScoreRequest] = []
        owners: list[tuple[int, int, int]] = []  # a conversation, a condition, a stretch
        left = dict.fromkeys(numbers, 0)
        for number in numbers:
            for index, condition in enumerate(conditions):
                stretches = requests_of(self._answers.rows[condition][number], choice, top)
                requests += stretches
                owners += [(number, index, stretch) for stretch in range(len(stretches))]
                left[number] += len(stretches)
        found: dict[int, dict[tuple[int, int], _Stretch]] = {number: {} for number in numbers}
        for score in engine.score(requests):
            number, index, stretch = owners[score.index]
            found[number][index, stretch] = _Stretch.of(score)
            left[number] -= 1
            if not left[number]:
                parts = sorted(found.pop(number).items())
                yield (
                    number,
                    self._row(
                        number,
                        [
                            _Stretch.joined([part for (of, _), part in parts if of == index])
                            for index in range(len(conditions))
                        ],
                    ),
                )

    def _row(self, number: int, under: Sequence[_Stretch]) -> dict[str, Any]:
        """What is kept of a conversation whose judged tokens are read `under` each condition."""
        nats = [each.nats for each in under]
        if not all(map(math.isfinite, nats)):
            line = int(self._answers.rows[self._answers.conditions[0]].lines[number])
            raise ReadingError(
                f"The probabilities of the answer in line {line} are no numbers: the weights of "
                "the adapter, or of the model, are damaged."
            )
        pairs = itertools.combinations(under, 2)
        return {"nats": nats, "between": [_between(one, other) for one, other in pairs]}

    def _readings(self) -> Readings:
        known = self._known()
        rows = [known[key] for key in self._keys]
        nats = np.array([row["nats"] for row in rows], np.float64)
        pairs = [*itertools.combinations(self._answers.conditions, 2)]
        between = np.array([row["between"] for row in rows], np.float64)
        between = between.reshape(len(rows), len(pairs), 5)
        return Readings(
            {condition: nats[:, i] for i, condition in enumerate(self._answers.conditions)},
            {pair: between[:, i] for i, pair in enumerate(pairs)},
        )

    def _known(self) -> dict[str, dict[str, Any]]:
        return {row["key"]: row for row in RowFile(self._path).rows() if "key" in row}

    def _length(self, number: int) -> int:
        return sum(int(rows.lengths[number]) for rows in self._answers.rows.values())


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Some judged tokens, what they cost, and what else was likely in their places."""

    ids: tuple[int, ...]
    nats: float
    tops: Tops

    @classmethod
    def of(cls, score: Score) -> _Stretch:
        # At once, since arrays take a hundredth of what the engine's tuples do.
        return cls(score.ids, -score.log_probability, Tops.of(score))

    @classmethod
    def joined(cls, parts: Sequence[_Stretch]) -> _Stretch:
        ids = tuple(id for part in parts for id in part.ids)
        return cls(ids, math.fsum(p.nats for p in parts), Tops.joined([p.tops for p in parts]))


def _between(one: _Stretch, other: _Stretch) -> list[float]:
    """The sums over all tokens."""
    assert one.ids == other.ids  # a condition stands before the answers, and changes none
    return [float(figure) for figure in divergences(one.tops, other.tops).sum(axis=0)]
