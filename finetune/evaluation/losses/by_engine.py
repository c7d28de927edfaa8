"""Losses by llama.cpp: what one chats with, quantised as it is, in the engine's child."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from openchat_local.finetune.data.batches import Row
from openchat_local.models.engine.protocol import AdapterChoice, Engine, ScoreRequest

# A call's requests are read before any is evaluated, and its context is made anew: some
# seconds of work each, so that neither is felt, and a call is soon given up.
TOKENS_A_CALL = 2**15


class EngineLosses:
    """`Losses` by `engine`, whatever adapter it has in force."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self, choice: AdapterChoice, rows: Sequence[Row]) -> Iterator[tuple[int, float]]:
        for numbers in _calls(rows):
            requests, owners = [], []
            left: dict[int, int] = {}
            nats = dict.fromkeys(numbers, 0.0)
            for number in numbers:
                spans = requests_of(rows[number], choice)
                requests += spans
                owners += [number] * len(spans)
                left[number] = len(spans)
            for score in self._engine.score(requests):
                number = owners[score.index]
                nats[number] -= score.log_probability
                left[number] -= 1
                if not left[number]:
                    yield number, nats[number]


def _calls(rows: Sequence[Row]) -> Iterator[list[int]]:
    """The numbers of all rows, a call's at a time: those that begin alike are together, for
    what they have in common is evaluated once a call."""
    order = sorted(range(len(rows)), key=lambda number: _beginning(rows[number]))
    call: list[int] = []
    tokens = 0
    for number in order:
        call.append(number)
        tokens += len(rows[number].ids)
        if tokens >= TOKENS_A_CALL:
            yield call
            call, tokens = [], 0
    if call:
        yield call


def _beginning(row: Row) -> bytes:
    # Big-endian, so that bytes are in the order of the ids.
    return row.ids[:128].astype(">u4").tobytes()


def requests_of(row: Row, choice: AdapterChoice, top: int = 0) -> list[ScoreRequest]:
    """One for each stretch of judged tokens, after all that stands before it. Every stretch is
    the beginning of the next one's prompt, so that the row goes through the model once, and
    logits are taken where they are judged, nowhere else. `top` as in `ScoreRequest`."""
    ids = row.ids.tolist()
    judged = np.concatenate([[False], row.weights > 0, [False]])
    starts, ends = np.flatnonzero(np.diff(judged.astype(np.int8))).reshape(-1, 2).T.tolist()
    return [
        ScoreRequest(tuple(ids[:start]), tuple(ids[start:end]), top, choice)
        for start, end in zip(starts, ends, strict=True)
    ]
