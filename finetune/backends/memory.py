"""What is held at once, and the words in which libraries tell that it was too much."""

from __future__ import annotations

# Logits held at once, as float32; but no fewer positions than keep a matrix product busy.
CHUNK_BYTES = 32 * 2**20
LEAST_POSITIONS = 128

# PyTorch, CUDA with its libraries, ROCm, oneAPI, Metal, MLX, NumPy and C++ say it in these words.
_SIGNS = (
    "out of memory",
    "outofmemory",
    "out_of_memory",
    "out_of_device_memory",
    "out_of_host_memory",
    "out_of_resources",
    "alloc_failed",
    "memoryallocation",
    "memoryerror",
    "insufficient memory",
    "not enough memory",
    "cannot allocate",
    "can't allocate",
    "unable to allocate",
    "failed to allocate",
    "attempting to allocate",
    "::malloc]",
    "bad_alloc",
)


def tells_of_memory(text: str) -> bool:
    """Whether an error message says that there was too little memory."""
    lower = text.lower()
    return any(sign in lower for sign in _SIGNS)


def positions_at_once(vocabulary: int) -> int:
    """Positions whose logits are held at once."""
    return max(CHUNK_BYTES // (4 * vocabulary), LEAST_POSITIONS)
