"""Where answers lie: the mean of the last hidden states of their own tokens, inside their chat."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from openchat_local.finetune.data.batches import Row
from openchat_local.finetune.evaluation.conditions.readings import Advance, ReadingError
from openchat_local.finetune.evaluation.losses.answers import Answers
from openchat_local.finetune.evaluation.rows import RowFile
from openchat_local.models.engine.protocol import AdapterChoice, Engine, Passage

# All vectors of a call come at once: so that not many are lost, and the bar moves.
_TOKENS_A_CALL = 2**12


class Unplaced:
    """The answers whose vectors are not in the file at `path` yet, each under a condition of
    `under` (conversations,), which may hold several for one answer."""

    def __init__(
        self,
        answers: Answers,
        path: Path,
        under: Sequence[Collection[str]],
        stop_ids: Collection[int],
    ) -> None:
        """An answer's last token is none of it where it is one of `stop_ids`."""
        self._answers, self._path, self._stop_ids = answers, path, stop_ids
        known = {row["row"] for row in RowFile(path).rows() if "row" in row}
        self._missing: dict[str, tuple[str, int]] = {}
        for number, conditions in enumerate(under):
            for condition in conditions:
                digest = answers.digests[condition][number]
                if digest not in known:
                    self._missing.setdefault(digest, (condition, number))

    def __len__(self) -> int:
        return len(self._missing)

    @property
    def tokens(self) -> int:
        """Those that are to go through the model."""
        return sum(
            int(self._answers.rows[condition].lengths[number])
            for condition, number in self._missing.values()
        )

    def place(self, engine: Engine, choice: AdapterChoice, advance: Advance) -> None:
        """Find them, and keep each. Raises ReadingError, EngineError and RowsUnwritten."""
        with RowFile(self._path) as file:
            for digests, passages in self._calls():
                vectors = engine.embed(passages, adapter=choice)
                if not np.isfinite(vectors).all():
                    raise ReadingError(
                        "The hidden states of some answers are no numbers: the weights of the "
                        "adapter, or of the model, are damaged."
                    )
                for digest, vector in zip(digests, vectors, strict=True):
                    file.append({"row": digest, "vector": packed(vector)})
                advance(sum(len(passage.ids) for passage in passages))

    def _calls(self) -> Iterator[tuple[list[str], list[Passage]]]:
        digests: list[str] = []
        passages: list[Passage] = []
        tokens = 0
        for digest, (condition, number) in self._missing.items():
            digests.append(digest)
            passages.append(passage_of(self._answers.rows[condition][number], self._stop_ids))
            tokens += len(passages[-1].ids)
            if tokens >= _TOKENS_A_CALL:
                yield digests, passages
                digests, passages, tokens = [], [], 0
        if passages:
            yield digests, passages


def vectors_of(answers: Answers, path: Path, under: Sequence[str]) -> np.ndarray:
    """(conversations, width) float32: the vector of each answer under its condition of `under`,
    from the file at `path`."""
    known = {row["row"]: row["vector"] for row in RowFile(path).rows() if "row" in row}
    return np.stack(
        [unpacked(known[answers.digests[condition][n]]) for n, condition in enumerate(under)]
    )


def passage_of(row: Row, stop_ids: Collection[int]) -> Passage:
    """The last answer of a conversation, with all that stands before it."""
    ids = tuple(row.ids.tolist())
    judged = row.weights > 0
    start = int(np.flatnonzero(judged & ~np.concatenate([[False], judged[:-1]]))[-1])
    if ids[-1] in stop_ids and start < len(ids) - 1:
        ids = ids[:-1]
    return Passage(ids, start)


def packed(vector: np.ndarray) -> str:
    """Float32 numbers as Base64 of their bytes: as digits they would be three times as many."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def unpacked(text: str) -> np.ndarray:
    """What `packed` gave."""
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32)
