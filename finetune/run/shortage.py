"""How a process that ran out of memory died."""

from __future__ import annotations

from pathlib import Path

from openchat_local.finetune.backends.memory import tells_of_memory

# The exit status of a process of ours that met a MemoryError: it may not be able to say more.
NO_MEMORY = 75
_SIGKILL = 9  # Windows has no such signal, nor a name for it
_SIGSEGV = 11


def died_of_memory(
    code: int, last_words: str, *, kernel_killed: bool | None, mlx_cpu: bool
) -> bool:
    """Whether a process that ended with exit status `code` (minus the signal) and wrote
    `last_words` to standard error ran out of memory.

    `kernel_killed` says whether the kernel killed some process for memory meanwhile, None
    where it does not tell. On a CPU, MLX writes through the null pointer (`mlx_cpu`).
    """
    if code == -_SIGKILL:  # whoever is killed has no last words
        return kernel_killed is not False
    if code >= 0:  # a traceback may quote anything
        return code == NO_MEMORY
    return (code == -_SIGSEGV and mlx_cpu) or tells_of_memory(last_words)


def kernel_kills() -> int | None:
    """How many processes the kernel has killed for memory since it started; None if unknown."""
    try:
        lines = Path("/proc/vmstat").read_text("ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    except (OSError, ValueError, StopIteration):
        return None
