"""Context length, GPU layers and threads for this machine, from the file's own metadata."""

from __future__ import annotations

from dataclasses import dataclass

from openchat_local.models.engine.protocol import EngineOptions, KVType
from openchat_local.models.errors import ModelLoadError
from openchat_local.models.gguf import GGUFFile
from openchat_local.models.memory import (
    DEFAULT_CONTEXT,
    MachineMemory,
    gpu_layers_that_fit,
    predict,
)
from openchat_local.models.units import memory_in_words

SMALLEST_CONTEXT = 512
_Q8_0_BLOCK = 32


@dataclass(frozen=True, slots=True)
class Placement:
    """How to load a model: `context` in tokens; `gpu_layers` as llama.cpp counts them;
    `repack` lets llama.cpp keep weights in an order that its CPU code likes better, as a copy
    in memory that cannot be given back; `notes` are sentences for the user."""

    context: int
    gpu_layers: int
    repack: bool
    notes: tuple[str, ...]


def fit_to_machine(file: GGUFFile, options: EngineOptions, machine: MachineMemory) -> Placement:
    """The best that `machine` has room for.

    What the user set is never changed. Raises ModelLoadError when a context that was asked for
    cannot be had, or a KV cache of that type.
    """
    gpu, kv_type = machine.gpu, options.kv_type
    _check_kv_type(file, kv_type)
    room = machine.available + (gpu.free if gpu is not None and not gpu.unified else 0)
    trained = file.context_length or DEFAULT_CONTEXT
    wanted = options.context or min(trained, DEFAULT_CONTEXT)
    choose = _checked_wish if options.context else _largest
    context = choose(file, wanted, room, kv_type)
    need = predict(file, context, kv_type=kv_type)
    notes = []
    if context < wanted:
        notes.append(
            f"Memory is short ({memory_in_words(room)} free): the context is {context:,} tokens "
            f"instead of {wanted:,}."
        )
    if need.total > room:
        notes.append(
            f"The model wants {memory_in_words(need.total)} of memory and "
            f"{memory_in_words(room)} is free: replies will be slow; close other programs, or use "
            "a smaller model."
        )
    if context > trained:
        notes.append(f"The model was trained on {trained:,} tokens: past them replies get worse.")
    layers = options.gpu_layers
    if layers < 0:
        layers, everything = (
            gpu_layers_that_fit(file, context, gpu, kv_type=kv_type),
            file.block_count + 1,
        )
        if gpu is not None and layers < everything:
            notes.append(
                f"{gpu.name} has room for {layers} of {everything} layers; the others stay on "
                "the CPU."
            )
    return Placement(context, layers, need.total <= room, tuple(notes))


def _largest(file: GGUFFile, context: int, room: int, kv_type: KVType) -> int:
    while context > SMALLEST_CONTEXT and predict(file, context, kv_type=kv_type).total > room:
        context //= 2
    return context


def _checked_wish(file: GGUFFile, context: int, room: int, kv_type: KVType) -> int:
    """`context`, unless it cannot be had even with the weights left on disk, from where they
    are read again and again."""
    need = predict(file, context, kv_type=kv_type)
    if need.kv + need.buffers > room:
        raise ModelLoadError(
            f"A context of {context:,} tokens needs {memory_in_words(need.kv + need.buffers)} of "
            f"memory and {memory_in_words(room)} is free: use --context "
            f"{_largest(file, context, room, kv_type)} or less."
        )
    return context


def _check_kv_type(file: GGUFFile, kv_type: KVType) -> None:
    widths = {file.key_length, file.value_length} if any(file.head_counts_kv) else set()
    uneven = [width for width in widths if kv_type == "q8_0" and width % _Q8_0_BLOCK]
    if uneven:
        raise ModelLoadError(
            f"A KV cache as q8_0 packs {_Q8_0_BLOCK} numbers at a time, and the attention heads of "
            f"{file.path.name} are {uneven[0]} wide: set kv.type to f16."
        )


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
