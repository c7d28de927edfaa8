"""The nats of every conversation by every contender; what is known already is not measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, overload

import numpy as np

from openchat_local.finetune.data.batches import Row
from openchat_local.finetune.evaluation.contender import Contender
from openchat_local.finetune.evaluation.losses.answers import Answers
from openchat_local.finetune.evaluation.losses.figures import Nats
from openchat_local.finetune.evaluation.rows import RowFile
from openchat_local.models.engine.protocol import AdapterChoice
from openchat_local.models.errors import OpenChatError


class LossError(OpenChatError):
    """A loss that is no number."""


class Losses(Protocol):
    """What computes: llama.cpp, or a training backend."""

    def __call__(self, choice: AdapterChoice, rows: Sequence[Row]) -> Iterator[tuple[int, float]]:
        """The number of each row, in any order, and the nats of all tokens that have weight in
        it (whatever weight), under that adapter."""
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is: `tokens` of the `of_tokens` that were to go through a model, now by
    `contender`; and `scored` of the `wanted` conversations, each of which counts once for every
    condition and contender, old ones included."""

    tokens: int
    of_tokens: int
    scored: int
    wanted: int
    contender: str = ""


def measure(
    answers: Answers,
    contenders: Sequence[Contender],
    losses: Losses,
    cache: Callable[[Contender], Path],
    progress: Callable[[Progress], None] = lambda _: None,
) -> dict[str, Nats]:
    """The nats of all `answers`, by the contender's label. What a contender has scored is kept
    in the file that `cache` names for it as soon as it is known, and not scored again.

    Raises LossError, and what `losses` raises.
    """
    wanted = _Wanted(answers)
    missing = {one.label: wanted.without(_known(cache(one))) for one in contenders}
    of_all = len(wanted) * len(contenders)
    so_far = Progress(
        0,
        sum(rows.tokens for rows in missing.values()),
        of_all - sum(len(rows) for rows in missing.values()),
        of_all,
    )
    nats = {}
    for contender in contenders:
        if rows := missing[contender.label]:
            so_far = replace(so_far, contender=contender.label)
            progress(so_far)
            with RowFile(cache(contender)) as file:
                for number, one in losses(contender.choice, rows):
                    row = rows[number]
                    _check(one, row, contender)
                    file.append({"row": rows.digest(number), "nats": one})
                    so_far = replace(
                        so_far, tokens=so_far.tokens + len(row.ids), scored=so_far.scored + 1
                    )
                    progress(so_far)
        nats[contender.label] = wanted.nats(_known(cache(contender)))
    return nats


def _check(nats: float, row: Row, contender: Contender) -> None:
    if not math.isfinite(nats):
        raise LossError(
            f"The loss of line {row.line} by {contender.label} is not a number: the weights of "
            "its adapter, or of its model, are damaged."
        )


def _known(path: Path) -> dict[str, float]:
    with RowFile(path) as file:
        return {row["row"]: row["nats"] for row in file.rows()}


class _Wanted:
    """Every different row of the answers, under all conditions, by its digest."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._places: dict[str, tuple[str, int]] = {}
        for condition, digests in answers.digests.items():
            for number, digest in enumerate(digests):
                self._places.setdefault(digest, (condition, number))

    def __len__(self) -> int:
        return len(self._places)

    def without(self, known: Mapping[str, float]) -> Rows:
        """Those that are not known."""
        return Rows(
            self._answers, [(d, *place) for d, place in self._places.items() if d not in known]
        )

    def nats(self, known: Mapping[str, float]) -> Nats:
        return {
            condition: np.array([known[digest] for digest in digests], np.float64)
            for condition, digests in self._answers.digests.items()
        }


class Rows(Sequence[Row]):
    """Some rows of the answers, read from disk when they are asked for."""

    def __init__(self, answers: Answers, places: Sequence[tuple[str, str, int]]) -> None:
        """`places`: the digest of each, its condition, and its number under that."""
        self._answers = answers
        self._places = places

    @property
    def tokens(self) -> int:
        """Of all rows, with what is not judged."""
        return sum(
            int(self._answers.rows[condition].lengths[number])
            for _, condition, number in self._places
        )

    def digest(self, index: int) -> str:
        """What tells the row from others."""
        return self._places[index][0]

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        _, condition, number = self._places[index]
        return self._answers.rows[condition][number]
