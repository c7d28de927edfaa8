"""Texts as vectors: the last hidden states of their tokens."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

import numpy as np

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.llamacpp import Aborted, Adapter, Model
from openchat_local.models.engine.prefix_tree import Row
from openchat_local.models.engine.protocol import Pooling
from openchat_local.models.engine.side_context import (
    SideContext,
    SideSettings,
    cells_for,
    rows_at_once,
)
from openchat_local.models.engine.side_job import Cancelled, RowBudget
from openchat_local.models.errors import ContextOverflow, EngineError
from openchat_local.models.template.raw_template import RawTemplate
from openchat_local.models.template.vocabulary import Vocabulary


def text_ids(texts: Sequence[str], vocabulary: Vocabulary, size: int) -> list[list[int]]:
    """The texts as token ids, BOS first where the vocabulary wants one. Raises ContextOverflow
    where one has more than `size` of them, EngineError where one has none."""
    template = RawTemplate(vocabulary)
    found = []
    for number, text in enumerate(texts, 1):
        ids = template.render(Conversation((Message("user", text),))).ids
        if len(ids) > size:
            raise ContextOverflow(
                f"Text {number} of {len(texts)} is {len(ids):,} tokens long and the context holds "
                f"{size:,}: shorten it, or restart with a larger --context."
            )
        if not ids:
            raise EngineError(f"Text {number} of {len(texts)} is empty: leave it out.")
        found.append(ids)
    return found


class EmbeddingJob:
    """Makes a vector of each text, a batch at a time; `emit` gets all of them at the end."""

    def __init__(
        self,
        model: Model,
        settings: SideSettings,
        texts: Sequence[str],
        pooling: Pooling,
        emit: Callable[[np.ndarray], None],
        adapter: Adapter | None = None,
        scale: float = 1.0,
    ) -> None:
        """Raises ContextOverflow or EngineError, if there is one that cannot be embedded."""
        self._ids = text_ids(texts, model.vocabulary, settings.size)
        self._model, self._settings, self._emit = model, settings, emit
        self._pooling, self._adapter, self._scale = pooling, adapter, scale
        self._rows = RowBudget()
        self.cancelled = Cancelled()
        self.done = False
        self._work = self._batches()

    def step(self, seconds: float | None) -> None:
        """One batch that takes about so long. Raises EngineError or ModelLoadError."""
        try:
            if self.cancelled.is_set():
                raise Aborted
            self._rows.allow(seconds, rows_at_once(self._model.vocabulary.n_tokens))
            next(self._work)
        except (StopIteration, Aborted):
            self.done = True
        except BaseException:
            self.done = True
            raise

    def close(self) -> None:
        """Give the memory back."""
        self._work.close()
        self.done = True

    def _batches(self) -> Generator[None, None, None]:
        if not self._ids:
            self._emit(np.zeros((0, self._model.width), dtype=np.float32))
            return
        cells = cells_for(max(map(len, self._ids)), self._settings)
        context = SideContext(self._model, self._settings, cells=cells, embeddings=True)
        try:
            self.cancelled.watch(context.abort)
            context.set_adapter(self._adapter, self._scale)
            vectors = np.zeros((len(self._ids), self._model.width), dtype=np.float64)
            text = start = 0
            while text < len(self._ids):
                spans = self._spans(text, start, context)
                with self._rows.timed(sum(end - begin for _, begin, end in spans)):
                    self._evaluate(context, spans, vectors)
                text, _, start = spans[-1]
                if start == len(self._ids[text]):
                    text, start = text + 1, 0
                yield
            self._emit(vectors.astype(np.float32))
        finally:
            context.close()

    def _spans(self, text: int, start: int, context: SideContext) -> list[tuple[int, int, int]]:
        """The next batch: texts by their number, each from a token up to another. Whoever ends
        in it gives its cells back, so that the last, which may go on, has all of them."""
        spans: list[tuple[int, int, int]] = []
        room, free = self._rows.most, context.cells - start
        while text < len(self._ids) and room and free and len(spans) < context.slots:
            end = min(len(self._ids[text]), start + min(room, free))
            spans.append((text, start, end))
            room, free = room - (end - start), free - (end - start)
            text, start = text + 1, 0
        return spans

    def _evaluate(
        self, context: SideContext, spans: Sequence[tuple[int, int, int]], vectors: np.ndarray
    ) -> None:
        rows = [
            Row(self._ids[text][position], position, (text % context.slots,), ())
            for text, start, end in spans
            for position in range(start, end)
        ]
        context.decode(rows, all_wanted=True)
        hidden, row = context.hidden(len(rows)), 0
        for text, start, end in spans:
            states, length = hidden[row : row + end - start], len(self._ids[text])
            if self._pooling == "mean":
                vectors[text] += states.sum(axis=0, dtype=np.float64) / length
            elif end == length:
                vectors[text] = states[-1]
            row += end - start
            if end == length:
                context.drop(text % context.slots)
