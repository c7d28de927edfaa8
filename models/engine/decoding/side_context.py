"""A context of its own beside the one that replies are written in: for many short sequences of
which more than the last row is wanted.

It has the model's weights in common with the other and nothing else, so that scoring and
embedding take no cell away from a chat, and no reply's bits depend on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import llama_cpp.llama_cpp as llama
import numpy as np

from openchat_local.models.engine.decoding.llamacpp import Aborted, Adapter, Context, Model
from openchat_local.models.engine.decoding.prefix_tree import Group, Row
from openchat_local.models.engine.protocol import KVType
from openchat_local.models.errors import EngineError
from openchat_local.models.system.machine import main_memory
from openchat_local.models.units import memory_in_words

# That are filled before they are given back: few, for attention looks at every cell, and enough
# for full batches. With 512 the starter's short texts took 3 % longer, with 1,024 9 %.
FRESH_CELLS = 256
SLOTS = 64
# What the logits of one batch may take, twice: llama.cpp computes them, and then copies them.
_LOGITS_BYTES = 32 * 1024**2
_FEWEST_ROWS, _MOST_ROWS = 16, 128


@dataclass(frozen=True, slots=True)
class SideSettings:
    """What a side context has in common with the main one: `size` is the most cells that it
    may have, `threads` those of a prompt. A cell takes `cell_bytes`."""

    size: int
    threads: int
    on_gpu: bool = False
    kv_type: KVType = "f16"
    cell_bytes: int = 0
    flash: bool = False


class SideContext:
    """A KV cache for many short sequences, and batches in which any row may be wanted."""

    def __init__(
        self,
        model: Model,
        settings: SideSettings,
        lengths: Sequence[int],
        *,
        embeddings: bool = False,
    ) -> None:
        """For sequences of these lengths in tokens, a few at a time. With `embeddings` rows give
        hidden states. Raises EngineError when the memory cannot be had."""
        self.sharing = model.cuttable
        longest, total = max(lengths), sum(lengths)
        self.cells = min(settings.size, total, longest + FRESH_CELLS)
        vocabulary = model.vocabulary.n_tokens
        self.outputs = min(rows_at_once(vocabulary), -(-total // 16) * 16)
        if not settings.on_gpu:
            _check_memory(self.cells * settings.cell_bytes + 2 * 4 * self.outputs * vocabulary)
        # llama.cpp aborts where a row of each sequence could not be had.
        self.slots = min(SLOTS, self.outputs) if self.sharing else 1
        self._context = Context(
            model,
            size=self.cells,
            threads=settings.threads,
            batch_threads=settings.threads,
            on_gpu=settings.on_gpu,
            kv_type=settings.kv_type,
            flash=settings.flash,
            sequences=self.slots,
            outputs=self.outputs,
        )
        self.abort = self._context.abort
        self.wait = self._context.wait
        self._pointer = self._context.pointer
        self._memory = llama.llama_get_memory(self._pointer)
        self._batch: Any = llama.llama_batch_init(self.outputs, 0, self.slots)
        self._vocabulary = vocabulary
        self._width = model.width
        if embeddings:
            llama.llama_set_embeddings(self._pointer, True)

    def set_adapter(self, adapter: Adapter | None, scale: float) -> None:
        """Use this adapter, or none, from now on; the cache is emptied."""
        self.clear()
        self._context.set_adapter(adapter, scale)

    def begin(self, group: Group) -> None:
        """Keep of the cache what the group takes over."""
        lengths = dict(group.kept)
        if not lengths:
            self.clear()
            return
        memory = self._memory
        for slot in range(self.slots):
            if slot != group.trunk:
                llama.llama_memory_seq_rm(memory, slot, -1, -1)
        for slot, length in group.kept:
            llama.llama_memory_seq_cp(memory, group.trunk, slot, 0, length)
        llama.llama_memory_seq_rm(memory, group.trunk, -1, -1)

    def decode(self, rows: Sequence[Row], *, all_wanted: bool = False) -> None:
        """Evaluate at most `outputs` rows. Raises Aborted, and then the cache holds what it held
        before; and EngineError."""
        batch = self._batch
        for index, row in enumerate(rows):
            batch.token[index], batch.pos[index] = row.token, row.position
            batch.n_seq_id[index] = len(row.slots)
            for number, slot in enumerate(row.slots):
                batch.seq_id[index][number] = slot
            batch.logits[index] = all_wanted or bool(row.wanted)
        batch.n_tokens = len(rows)
        status = llama.llama_decode(self._pointer, batch)
        if status == 2:
            first: dict[int, int] = {}
            for row in rows:
                for slot in row.slots:
                    first.setdefault(slot, row.position)
            for slot, position in first.items():
                llama.llama_memory_seq_rm(self._memory, slot, position, -1)
            raise Aborted
        if status != 0:
            raise EngineError(
                f"llama.cpp could not evaluate what was to be scored (its code {status}): try "
                "fewer or shorter texts."
            )

    def logits(self, count: int) -> np.ndarray:
        """(count, vocabulary) float32: those of the wanted rows of the last batch, in order.
        Valid until the next one."""
        pointer = llama.llama_get_logits(self._pointer)
        return np.ctypeslib.as_array(pointer, shape=(count, self._vocabulary))

    def hidden(self, count: int) -> np.ndarray:
        """(count, width) float32: the last hidden states, after the final norm, of the rows of
        the last batch. Valid until the next one."""
        pointer = llama.llama_get_embeddings(self._pointer)
        return np.ctypeslib.as_array(pointer, shape=(count, self._width))

    def drop(self, slot: int) -> None:
        """Empty one sequence."""
        llama.llama_memory_seq_rm(self._memory, slot, -1, -1)

    def clear(self) -> None:
        """Empty the cache."""
        llama.llama_memory_clear(self._memory, False)

    def close(self) -> None:
        if self._batch is not None:
            llama.llama_batch_free(self._batch)
            self._batch = None
            self._context.close()


def _check_memory(needed: int) -> None:
    free = main_memory().available
    if needed > free:
        raise EngineError(
            f"Scoring needs {memory_in_words(needed)} of memory beside the chat's and "
            f"{memory_in_words(free)} is free: close other programs, or give it shorter texts."
        )


def rows_at_once(vocabulary: int) -> int:
    """How many rows a batch may have so that the logits of all of them stay in bounds."""
    rows = _LOGITS_BYTES // (4 * vocabulary) // 16 * 16
    return max(_FEWEST_ROWS, min(_MOST_ROWS, rows))
