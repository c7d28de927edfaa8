"""How MLX says that memory is short."""

from __future__ import annotations

import pytest

from openchat_local.finetune.backends.mlx.device import memory_errors


@pytest.mark.parametrize(
    "text",
    [
        (
            "[metal::malloc] Attempting to allocate 103918075904 bytes which is greater than the "
            "maximum allowed buffer size of 86586540032 bytes."
        ),
        "[malloc] Unable to allocate 1073741824 bytes.",
        (
            "[METAL] Command buffer execution failed: Insufficient Memory "
            "(00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"
        ),
    ],
)
def test_failed_allocations_are_memory_errors(text: str) -> None:
    with pytest.raises(MemoryError), memory_errors():
        raise RuntimeError(text)


def test_other_faults_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shape"), memory_errors():
        raise RuntimeError("[matmul] Last dimension of first input with shape (2,3)")
