"""llama.cpp's C API as two objects: a loaded model, and a context with one sequence.

Only the engine child and the benchmarks import this; the app never does, since
llama.cpp aborts its whole process on a bad file or a failed allocation.
"""

from __future__ import annotations

import bisect
import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as llama

from openchat_local.models.engine.devices import load_backends
from openchat_local.models.engine.speculation import MOST_ROWS
from openchat_local.models.errors import AdapterError, EngineError, ModelLoadError
from openchat_local.models.gguf import GGUFFile
from openchat_local.models.memory import BATCH, CPU_BATCH
from openchat_local.models.system.installing import install_command
from openchat_local.models.template.vocabulary import (
    Vocabulary,
    quiet_llama_log,
    space_prefix_override,
)

SEQUENCE = 0
_MADV_DONTNEED = 4


class Model:
    """A GGUF file loaded by llama.cpp, with its vocabulary."""

    def __init__(
        self,
        file: GGUFFile,
        *,
        gpu_layers: int = -1,
        repack: bool = True,
        vocab_only: bool = False,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        """Load `file`; `on_progress` gets fractions from 0 to 1. Without `repack` all weights
        stay in the file, from where the system reads them as often as it must.

        Raises ModelLoadError.
        """
        quiet_llama_log()
        llama.llama_backend_init()
        load_backends()
        parameters = llama.llama_model_default_params()
        parameters.n_gpu_layers = gpu_layers if gpu_layers >= 0 else 999
        parameters.use_extra_bufts = repack
        parameters.vocab_only = vocab_only
        self._overrides = space_prefix_override()  # llama.cpp keeps the pointer
        parameters.kv_overrides = self._overrides
        if on_progress is not None:

            def report(fraction: float, _data: object) -> bool:
                on_progress(fraction)
                return True

            self._progress = llama.llama_progress_callback(report)
            parameters.progress_callback = self._progress
        self.pointer = llama.llama_model_load_from_file(os.fsencode(file.path), parameters)
        if not self.pointer:
            raise ModelLoadError(
                f"llama.cpp could not load {file.path}: the file may be damaged, or of a kind this "
                "version does not know; check it, or update with "
                f"{install_command('-U', 'llama-cpp-python')}."
            )
        for path in file.parts or (file.path,):
            _let_go_of_read_pages(path)
        self.vocabulary = Vocabulary.of_model(self.pointer, file.path)
        self.guidance: Any = None  # what the schema engine made of the vocabulary
        self.context_trained: int = llama.llama_model_n_ctx_train(self.pointer)

    def close(self) -> None:
        if self.pointer:
            llama.llama_model_free(self.pointer)
            self.pointer = None


def _let_go_of_read_pages(path: Path) -> None:
    """Give back the pages of the file that loading has read.

    Weights that were repacked, or copied to a GPU, are never read from the file again, and
    their pages would count as this process's memory: 3.2 GB of a 7B model in Q4_K_M. Those that
    are still needed come back from the system's cache at their first use.
    """
    if sys.platform != "linux":
        return
    libc, real = ctypes.CDLL(None, use_errno=True), os.path.realpath(path)
    for line in Path("/proc/self/maps").read_text(errors="replace").splitlines():
        span, _, _, _, _, *name = line.split(maxsplit=5)
        if name == [real]:
            start, end = (int(address, 16) for address in span.split("-"))
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED)


class Adapter:
    """A LoRA adapter loaded for one model. Check with `check_fits` before: llama.cpp says
    little of what is wrong with one."""

    def __init__(self, model: Model, path: Path) -> None:
        """Raises AdapterError."""
        self.pointer = llama.llama_adapter_lora_init(model.pointer, os.fsencode(path))
        if not self.pointer:
            raise AdapterError(
                f"llama.cpp could not load the adapter {path}: export it again, or update with "
                f"{install_command('-U', 'llama-cpp-python')}."
            )

    def close(self) -> None:
        """Free it; no context may be using it."""
        if self.pointer:
            llama.llama_adapter_lora_free(self.pointer)
            self.pointer = None


class AbortFlag:
    """A flag that llama.cpp polls between the nodes of a graph, without Python.

    llama.cpp wants a C function `bool f(void *data)`. A Python callback would take the
    GIL some 700 times a token, so the C library's own `strlen` does it: over a buffer that
    holds the empty string it returns 0 (go on), and 1 (stop) once the first byte is set.
    """

    def __init__(self) -> None:
        self._buffer = ctypes.create_string_buffer(2)
        library = ctypes.cdll.msvcrt if os.name == "nt" else ctypes.CDLL(None)
        self.function = ctypes.cast(library.strlen, llama.ggml_abort_callback)
        self.data = ctypes.cast(self._buffer, ctypes.c_void_p)

    def set(self) -> None:
        self._buffer[0] = b"x"

    def clear(self) -> None:
        self._buffer[0] = b"\0"

    def is_set(self) -> bool:
        return self._buffer[0] != b"\0"


class Aborted(Exception):
    """The abort flag was set while tokens were being decoded."""


class Context:
    """A KV cache for one sequence. `tokens` are the ids that it holds, in order, and `chunks`
    the spans [start, end) of those that were decoded several at once.

    What comes out depends on how many tokens were decoded together (llama.cpp has other
    kernels for one row, for few, and for many), so two caches of the same ids are alike to
    the last bit only where they were cut into the same chunks. It does not depend on the
    number of threads: flash attention would divide a long cache among them, and round sums
    otherwise for each number, so it is off on the CPU, where it also took a fifth longer a
    token at 1,500 tokens. Without it the scores of a whole chunk against the whole cache are
    held at once, hence the small chunks.
    """

    def __init__(
        self, model: Model, *, size: int, threads: int, batch_threads: int, on_gpu: bool = False
    ) -> None:
        """`size` in tokens; `on_gpu` where a GPU has layers of the model. Raises ModelLoadError
        when the memory cannot be had."""
        self.model = model
        self.size = size
        self._batch_threads = batch_threads
        self.tokens: list[int] = []
        self.chunks: list[tuple[int, int]] = []
        self.abort = AbortFlag()
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = size
        parameters.n_batch = BATCH
        parameters.n_ubatch = BATCH if on_gpu else CPU_BATCH
        if not on_gpu:
            parameters.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.n_seq_max = 1
        # Only the last token of a batch is asked for. Else llama.cpp reserves the logits of
        # all of them: 96 MiB of the starter's 98.
        # Drafted tokens are verified by theirs.
        parameters.n_outputs_max = MOST_ROWS
        parameters.n_threads = threads
        parameters.n_threads_batch = batch_threads
        parameters.no_perf = True
        self.pointer = llama.llama_init_from_model(model.pointer, parameters)
        if not self.pointer:
            raise ModelLoadError(
                f"There is not enough memory for a context of {size:,} tokens: "
                "choose a smaller one with --context."
            )
        llama.llama_set_abort_callback(self.pointer, self.abort.function, self.abort.data)
        self._memory = llama.llama_get_memory(self.pointer)
        self._batch = llama.llama_batch_init(BATCH, 0, 1)
        self._one = (llama.llama_token * 1)()
        self._one_batch = llama.llama_batch_get_one(self._one, 1)

    def set_adapter(self, adapter: Adapter | None, scale: float = 1.0) -> None:
        """Add `scale` times this adapter to the model, in place of any other; empties the
        cache, whose keys and values came from other weights."""
        count = 0 if adapter is None else 1
        pointers = (llama.llama_adapter_lora_p_ctypes * 1)()
        if adapter is not None:
            pointers[0] = adapter.pointer
        llama.llama_set_adapters_lora(self.pointer, pointers, count, (ctypes.c_float * 1)(scale))
        self.keep_prefix(0)

    def keep_prefix(self, length: int) -> None:
        """Drop every token after the first `length`."""
        if length < len(self.tokens):
            del self.tokens[length:]
            while self.chunks and self.chunks[-1][1] > length:
                self.chunks.pop()
        # Also when the list is already that short: an aborted decode may have left cells.
        if length == 0:
            llama.llama_memory_clear(self._memory, False)
        elif not llama.llama_memory_seq_rm(self._memory, SEQUENCE, length, -1):
            # Recurrent and sliding-window caches cannot be cut in the middle.
            self.tokens.clear()
            self.chunks.clear()
            llama.llama_memory_clear(self._memory, False)

    def whole_chunks(self, length: int) -> int:
        """The most of the first `length` tokens that no chunk is cut by."""
        number = bisect.bisect_left(self.chunks, (length,)) - 1
        if number >= 0 and length < self.chunks[number][1]:
            return self.chunks[number][0]
        return length

    def decode(self, ids: Sequence[int], outputs: int = 1) -> None:
        """Append `ids` (at most BATCH); the logits of the last `outputs` are then ready.

        Raises Aborted when the flag was set; the cache then holds what it held before.
        """
        if len(ids) == 1:
            self._one[0] = ids[0]
            status = llama.llama_decode(self.pointer, self._one_batch)
        elif outputs > 1:
            status = llama.llama_decode(self.pointer, self._fill(ids, outputs))
        else:
            array = (llama.llama_token * len(ids))(*ids)
            status = llama.llama_decode(self.pointer, llama.llama_batch_get_one(array, len(ids)))
        if status == 0:
            if len(ids) > 1:
                self.chunks.append((len(self.tokens), len(self.tokens) + len(ids)))
            self.tokens.extend(ids)
            return
        self.keep_prefix(len(self.tokens))
        if status == 2:
            raise Aborted
        raise EngineError(
            "llama.cpp could not decode the prompt"
            + (": the context is full" if status == 1 else f" (its code {status})")
            + "; start a new chat, or restart with a larger --context."
        )

    def _fill(self, ids: Sequence[int], outputs: int) -> Any:
        batch, first = self._batch, len(self.tokens)
        batch.n_tokens = len(ids)
        for row, token in enumerate(ids):
            batch.token[row], batch.pos[row] = token, first + row
            batch.n_seq_id[row], batch.seq_id[row][0] = 1, SEQUENCE
            batch.logits[row] = row >= len(ids) - outputs
        return batch

    def use_threads(self, threads: int) -> None:
        """Decode with `threads` from now on. Prompts keep theirs: they are bound by arithmetic,
        not by memory, and threads that sleep while they wait do not suffer from a busy core."""
        llama.llama_set_n_threads(self.pointer, threads, self._batch_threads)

    def wait(self) -> None:
        """Block until the last decode is really done (a GPU works behind the caller's back)."""
        llama.llama_synchronize(self.pointer)

    def save_state(self, path: Path) -> int:
        """Write the KV cache and its tokens to `path`; the size in bytes, 0 when it failed."""
        array = (llama.llama_token * len(self.tokens))(*self.tokens)
        written: int = llama.llama_state_seq_save_file(
            self.pointer, os.fsencode(path), SEQUENCE, array, len(self.tokens)
        )
        return written

    def load_state(
        self, path: Path, tokens: Sequence[int], chunks: Sequence[Sequence[int]]
    ) -> bool:
        """Replace the KV cache by the state at `path`, if it holds exactly `tokens`; they were
        decoded in these `chunks`."""
        self.keep_prefix(0)
        capacity = len(tokens)
        array = (llama.llama_token * capacity)()
        count = ctypes.c_size_t()
        read = llama.llama_state_seq_load_file(
            self.pointer, os.fsencode(path), SEQUENCE, array, capacity, ctypes.byref(count)
        )
        if read and count.value == capacity and list(array) == list(tokens):
            self.tokens = list(tokens)
            self.chunks = [(start, end) for start, end in chunks]
            return True
        self.keep_prefix(0)
        return False

    def state_size(self) -> int:
        """Bytes that `save_state` would write."""
        size: int = llama.llama_state_seq_get_size(self.pointer, SEQUENCE)
        return size

    def close(self) -> None:
        if self.pointer:
            llama.llama_free(self.pointer)
            self.pointer = None
