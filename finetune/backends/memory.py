"""The words in which the libraries that compute tell of too little memory."""

from __future__ import annotations

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
