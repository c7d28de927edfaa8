"""Whether a model fits into this machine's memory, from its shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["fits", "tight", "does not fit"]

# What llama.cpp takes besides weights and KV cache (compute buffers, the interpreter).
OVERHEAD = 300 * 1024**2
_KV_ELEMENT = 2  # bytes: f16


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """Bytes: what there is, and what can be had without swapping."""

    total: int
    available: int


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The dimensions that memory depends on."""

    blocks: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes by what they are for."""

    weights: int
    kv: int
    buffers: int

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.buffers


def machine_memory() -> MachineMemory:
    """What this machine has now."""
    import psutil

    memory = psutil.virtual_memory()
    return MachineMemory(memory.total, memory.available)


def predict_from_shape(shape: ModelShape, weight_bytes: int, context: int) -> MemoryNeed:
    """What a model of this shape takes at `context` tokens."""
    kv = 2 * shape.blocks * shape.kv_heads * shape.head_width * _KV_ELEMENT * context
    return MemoryNeed(weight_bytes, kv, OVERHEAD)


def verdict(need_bytes: int, machine: MachineMemory) -> Verdict:
    """ "tight" where it leaves less than a tenth of what is available."""
    if need_bytes > machine.available:
        return "does not fit"
    return "tight" if need_bytes > 0.9 * machine.available else "fits"
