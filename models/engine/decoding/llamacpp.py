"""llama.cpp's C API as a few objects: a loaded model, an adapter, a context of many sequences.

Only the engine child and the benchmarks import this; the app never does, since
llama.cpp aborts its whole process on a bad file or a failed allocation.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import llama_cpp.llama_cpp as llama

from openchat_local.models.engine.devices import load_backends
from openchat_local.models.engine.protocol import KVType
from openchat_local.models.errors import AdapterError, EngineError, ModelLoadError
from openchat_local.models.gguf import GGUFFile
from openchat_local.models.memory import BATCH, CPU_BATCH, FLASH_BATCH, OUTPUT_ROWS
from openchat_local.models.system.installing import install_command
from openchat_local.models.template.vocabulary import (
    Vocabulary,
    quiet_llama_log,
    space_prefix_override,
)

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
        self.width: int = llama.llama_model_n_embd_out(self.pointer)
        # What a recurrent state or a sliding window has forgotten cannot be cut back to.
        self.cuttable = not (
            llama.llama_model_is_recurrent(self.pointer)
            or llama.llama_model_is_hybrid(self.pointer)
            or llama.llama_model_n_swa(self.pointer) > 0
        )

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


class CacheFull(Exception):
    """There are fewer free cells than rows were to be decoded."""


class Rows(NamedTuple):
    """Consecutive tokens of one sequence, the first at `position`; logits are wanted of the
    last `outputs` of them."""

    sequence: int
    position: int
    ids: Sequence[int]
    outputs: int = 1


class Context:
    """A KV cache whose cells are shared out among `sequences` sequences, numbered from 0, and
    batches of rows decoded into it. Which tokens are where is its caller's business.

    What comes out depends on how many rows were decoded together (llama.cpp has other
    kernels for one row, for few, and for many) and on which cells a sequence has (they decide
    the order of sums). With `flash` attention a single row depends on the number of threads as
    well, which divide a long cache among them; without it the scores of a whole chunk against
    the whole cache are held at once, hence the small chunks. Which is faster depends on the
    processor (see `attention`).
    """

    def __init__(
        self,
        model: Model,
        *,
        size: int,
        threads: int,
        batch_threads: int,
        on_gpu: bool = False,
        sequences: int = 1,
        kv_type: KVType = "f16",
        outputs: int = OUTPUT_ROWS,
        flash: bool = False,
    ) -> None:
        """`size` in tokens, of all sequences together; `on_gpu` where a GPU has layers of the
        model, and llama.cpp chooses the attention; `outputs` rows of a batch may have logits.
        Raises ModelLoadError when the memory cannot be had, or not with this `kv_type`."""
        self.model = model
        self.size = size
        self.sequences = sequences
        self._batch_threads = batch_threads
        # Whether the bits of a single row depend on how many threads decode it.
        self.divides = flash and kv_type == "f16" and not on_gpu
        self.abort = AbortFlag()
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = size
        parameters.n_batch = BATCH
        rows = FLASH_BATCH if flash else CPU_BATCH
        parameters.n_ubatch = BATCH if on_gpu else max(rows, outputs)
        if kv_type == "q8_0":
            # Flash attention reads it as it is, and no number of threads changes a bit: it
            # divides a long cache among them for float types alone.
            parameters.type_k = parameters.type_v = llama.GGML_TYPE_Q8_0
            parameters.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_ENABLED
        elif not on_gpu:
            parameters.flash_attn_type = (
                llama.LLAMA_FLASH_ATTN_TYPE_ENABLED
                if flash
                else llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
            )
        parameters.pooling_type = llama.LLAMA_POOLING_TYPE_NONE
        parameters.n_seq_max = sequences
        parameters.kv_unified = True
        # Else llama.cpp reserves logits for a whole batch: 96 MiB of the starter's 98.
        parameters.n_outputs_max = outputs
        parameters.n_threads = threads
        parameters.n_threads_batch = batch_threads
        parameters.no_perf = True
        self.pointer = llama.llama_init_from_model(model.pointer, parameters)
        if not self.pointer:
            if kv_type != "f16" and not _can_hold(model, parameters):
                raise ModelLoadError(
                    f"llama.cpp cannot keep this model's KV cache as {kv_type}: set kv.type to f16."
                )
            raise ModelLoadError(
                f"There is not enough memory for a context of {size:,} tokens: "
                "choose a smaller one with --context."
            )
        llama.llama_set_abort_callback(self.pointer, self.abort.function, self.abort.data)
        self._memory = llama.llama_get_memory(self.pointer)
        self._batch = llama.llama_batch_init(BATCH, 0, 1)
        for row in range(BATCH):
            self._batch.n_seq_id[row] = 1

    def set_adapter(self, adapter: Adapter | None, scale: float = 1.0) -> None:
        """Add `scale` times this adapter to the model, in place of any other, for the batches
        to come; the cells of those before stay what they are."""
        count = 0 if adapter is None else 1
        pointers = (llama.llama_adapter_lora_p_ctypes * 1)()
        if adapter is not None:
            pointers[0] = adapter.pointer
        llama.llama_set_adapters_lora(self.pointer, pointers, count, (ctypes.c_float * 1)(scale))

    def decode(self, parts: Sequence[Rows]) -> None:
        """Decode `parts` (at most BATCH rows, OUTPUT_ROWS of them with logits) in one batch.
        The logits of a row are then found by its number, counted over all parts from 0.

        Raises Aborted when the flag was set, CacheFull, or EngineError; the cache then holds
        what it held before.
        """
        batch, row = self._batch, 0
        token, pos, sequence_of, wanted = batch.token, batch.pos, batch.seq_id, batch.logits
        for sequence, first, ids, outputs in parts:
            first_wanted = row + len(ids) - outputs
            for position, id in enumerate(ids, first):
                token[row], pos[row], sequence_of[row][0] = id, position, sequence
                wanted[row] = row >= first_wanted
                row += 1
        batch.n_tokens = row
        status = llama.llama_decode(self.pointer, batch)
        if status == 0:
            return
        for part in parts:  # an aborted decode may have left cells
            llama.llama_memory_seq_rm(self._memory, part.sequence, part.position, -1)
        if status == 2:
            raise Aborted
        if status == 1:
            raise CacheFull
        raise EngineError(
            f"llama.cpp could not decode the prompt (its code {status}); start a new chat, or "
            "restart with a larger --context."
        )

    def cut(self, sequence: int, length: int) -> bool:
        """Give back the cells of the sequence after its first `length`; False, with nothing
        changed, where a cache cannot be cut in the middle."""
        return bool(llama.llama_memory_seq_rm(self._memory, sequence, length, -1))

    def share(self, source: int, target: int, length: int) -> None:
        """Make the first `length` cells of one sequence those of another, empty one as well."""
        llama.llama_memory_seq_cp(self._memory, source, target, 0, length)

    def clear(self) -> None:
        """Empty all sequences."""
        llama.llama_memory_clear(self._memory, False)

    def use_threads(self, threads: int) -> None:
        """Decode with `threads` from now on. Prompts keep theirs: they are bound by arithmetic,
        not by memory, and threads that sleep while they wait do not suffer from a busy core."""
        llama.llama_set_n_threads(self.pointer, threads, self._batch_threads)

    def wait(self) -> None:
        """Block until the last decode is really done (a GPU works behind the caller's back)."""
        llama.llama_synchronize(self.pointer)

    def save_state(self, path: Path, sequence: int, tokens: Sequence[int]) -> int:
        """Write the sequence's cells and `tokens`, which they hold, to `path`; the size in
        bytes, 0 when it failed."""
        array = (llama.llama_token * len(tokens))(*tokens)
        written: int = llama.llama_state_seq_save_file(
            self.pointer, os.fsencode(path), sequence, array, len(tokens)
        )
        return written

    def load_state(self, path: Path, sequence: int, tokens: Sequence[int]) -> bool:
        """Fill the empty sequence with the state at `path`, if it holds exactly `tokens`."""
        capacity = len(tokens)
        array = (llama.llama_token * capacity)()
        count = ctypes.c_size_t()
        read = llama.llama_state_seq_load_file(
            self.pointer, os.fsencode(path), sequence, array, capacity, ctypes.byref(count)
        )
        if read and count.value == capacity and list(array) == list(tokens):
            return True
        self.cut(sequence, 0)
        return False

    def state_size(self, sequence: int) -> int:
        """Bytes that `save_state` would write."""
        size: int = llama.llama_state_seq_get_size(self.pointer, sequence)
        return size

    def close(self) -> None:
        if self.pointer:
            llama.llama_batch_free(self._batch)
            llama.llama_free(self.pointer)
            self.pointer = None


def _can_hold(model: Model, parameters: Any) -> bool:
    """Whether these parameters work for a context that takes next to no memory."""
    parameters.n_ctx = 256
    pointer = llama.llama_init_from_model(model.pointer, parameters)
    if pointer:
        llama.llama_free(pointer)
    return bool(pointer)
