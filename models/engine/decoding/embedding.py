"""Texts as vectors: the last hidden states of their tokens."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence

import numpy as np

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.decoding.prefix_tree import Row
from openchat_local.models.engine.decoding.side_context import SideContext
from openchat_local.models.engine.decoding.side_job import Beside, SideJob
from openchat_local.models.engine.protocol import AdapterChoice, Passage, Pooling
from openchat_local.models.errors import ContextOverflow, EngineError
from openchat_local.models.template.raw_template import RawTemplate
from openchat_local.models.template.vocabulary import Vocabulary


def text_ids(
    texts: Sequence[str | Passage], vocabulary: Vocabulary, size: int
) -> Iterator[list[int]]:
    """The texts as token ids, BOS first where the vocabulary wants one. Raises ContextOverflow
    where one has more than `size` of them, EngineError where one has none to pool, or one that
    the vocabulary has not."""
    template = RawTemplate(vocabulary)
    for number, text in enumerate(texts, 1):
        which = f"Text {number} of {len(texts)}"
        if isinstance(text, str):
            ids = template.render(Conversation((Message("user", text),))).ids
        else:
            ids = list(text.ids)
            _check(text, which, vocabulary)
        if len(ids) > size:
            raise ContextOverflow(
                f"{which} is {len(ids):,} tokens long and the context holds {size:,}: shorten it, "
                "or restart with a larger --context."
            )
        if not ids:
            raise EngineError(f"{which} is empty: leave it out.")
        yield ids


def _check(passage: Passage, which: str, vocabulary: Vocabulary) -> None:
    for id in passage.ids:
        if not 0 <= id < vocabulary.n_tokens:
            raise EngineError(
                f"{which} has the token {id}, and this model has {vocabulary.n_tokens:,}: use "
                "the ids of this model's own vocabulary."
            )
    if passage.ids and not 0 <= passage.start < len(passage.ids):
        raise EngineError(
            f"{which} has {len(passage.ids):,} tokens and none from {passage.start:,} on: begin "
            "at one that it has."
        )


class EmbeddingJob(SideJob):
    """Makes a vector of each text, a batch at a time; `emit` gets all of them at the end."""

    def __init__(
        self,
        id: int,
        beside: Beside,
        texts: Sequence[str | Passage],
        pooling: Pooling,
        adapter: AdapterChoice | None,
        emit: Callable[[np.ndarray], None],
        fail: Callable[[Exception], None],
    ) -> None:
        super().__init__(id, beside, fail)
        self._texts, self._pooling, self._choice, self._emit = texts, pooling, adapter, emit
        self._ids: list[list[int]] = []
        self._starts = [text.start if isinstance(text, Passage) else 0 for text in texts]

    def _batches(self) -> Generator[None, None, None]:
        model, settings = self._beside.model, self._beside.settings
        for ids in text_ids(self._texts, model.vocabulary, settings.size):
            self._ids.append(ids)
            if self._is_time:
                yield
        vectors = np.zeros((len(self._ids), model.width), dtype=np.float64)
        if self._ids:
            context = self._opened([len(ids) for ids in self._ids], embeddings=True)
            yield
            self._use(context, self._choice)
            yield from self._embedded(context, vectors)
        self._emit(vectors.astype(np.float32))

    def _embedded(self, context: SideContext, vectors: np.ndarray) -> Generator[None, None, None]:
        text = start = 0
        while text < len(self._ids):
            spans = self._spans(text, start, context)
            if self._pool(context, spans, vectors):
                text, _, start = spans[-1]
                if start == len(self._ids[text]):
                    text, start = text + 1, 0
            yield

    def _spans(self, text: int, start: int, context: SideContext) -> list[tuple[int, int, int]]:
        """The next batch: texts by their number, each from a token up to another. Whoever ends
        in it gives its cells back, so that the last, which may go on, has all of them."""
        spans: list[tuple[int, int, int]] = []
        room, free = self._most_rows(context), context.cells - start
        while text < len(self._ids) and room and free and len(spans) < context.slots:
            end = min(len(self._ids[text]), start + min(room, free))
            spans.append((text, start, end))
            room, free = room - (end - start), free - (end - start)
            text, start = text + 1, 0
        return spans

    def _pool(
        self, context: SideContext, spans: Sequence[tuple[int, int, int]], vectors: np.ndarray
    ) -> bool:
        """Add what these spans are to the vectors; False where the batch is to be done again."""
        rows = [
            Row(self._ids[text][position], position, (text % context.slots,), ())
            for text, start, end in spans
            for position in range(start, end)
        ]
        if not self._evaluate(context, rows, all_wanted=True):
            return False
        hidden, row = context.hidden(len(rows)), 0
        for text, start, end in spans:
            states, length = hidden[row : row + end - start], len(self._ids[text])
            if self._pooling == "mean":
                first = self._starts[text]
                pooled = states[max(first - start, 0) :]
                vectors[text] += pooled.sum(axis=0, dtype=np.float64) / (length - first)
            elif end == length:
                vectors[text] = states[-1]
            row += end - start
            if end == length:
                context.drop(text % context.slots)
        return True
