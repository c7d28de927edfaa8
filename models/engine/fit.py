"""Context length and threads for this machine, from the file's own metadata."""

from __future__ import annotations

from dataclasses import dataclass

from openchat_local.models.engine.protocol import EngineOptions
from openchat_local.models.errors import ModelLoadError
from openchat_local.models.gguf import GGUFFile

# Enough for a long chat; more costs memory that a laptop wants for other things.
DEFAULT_CONTEXT = 8192
SMALLEST_CONTEXT = 512
# What llama.cpp takes besides weights and KV cache (compute buffers, the interpreter).
OVERHEAD = 300 * 1024**2


@dataclass(frozen=True, slots=True)
class Fit:
    """`context` in tokens; `notes` are sentences for the user."""

    context: int
    notes: tuple[str, ...]


def fit_context(file: GGUFFile, options: EngineOptions, available: int) -> Fit:
    """The context to load with, given `available` bytes of memory.

    A context that the user set is never changed. Raises ModelLoadError when it cannot fit.
    """
    trained = file.context_length or DEFAULT_CONTEXT
    per_token = file.kv_bytes_per_token()
    if options.context:
        return _check_wish(options.context, trained, per_token, available)
    context = min(trained, DEFAULT_CONTEXT)
    wanted = context
    while context > SMALLEST_CONTEXT and (
        file.file_size + context * per_token + OVERHEAD > available
    ):
        context //= 2
    notes = []
    if context < wanted:
        notes.append(
            f"Memory is short ({available / 1024**3:.1f} GiB free): the context is "
            f"{context:,} tokens instead of {wanted:,}."
        )
    return Fit(context, tuple(notes))


def _check_wish(context: int, trained: int, per_token: int, available: int) -> Fit:
    needed = context * per_token + OVERHEAD
    if needed > available:
        largest = max(SMALLEST_CONTEXT, (available - OVERHEAD) // per_token // 1024 * 1024)
        raise ModelLoadError(
            f"A context of {context:,} tokens needs {needed / 1024**3:.1f} GiB of memory and "
            f"{available / 1024**3:.1f} GiB is free: use --context {min(largest, trained)} "
            "or less."
        )
    if context > trained:
        return Fit(
            context,
            (f"The model was trained on {trained:,} tokens: past them replies get worse.",),
        )
    return Fit(context, ())


def available_memory() -> int:
    """Bytes that can be had without swapping."""
    import psutil

    available: int = psutil.virtual_memory().available
    return available


def physical_cores() -> int:
    """Cores that this process may run on, hyper-threads counted once."""
    import os

    import psutil

    physical: int = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return max(1, min(physical, allowed))


def decode_threads(cores: int) -> int:
    """Threads for decoding, leaving the UI its share.

    llama.cpp's threads meet at a barrier after every node of the graph, so one that has to
    share its core with the UI holds up all others. From four cores on, one is left free;
    with fewer, the second thread is worth more than the quiet.
    """
    return cores - 1 if cores >= 4 else cores
