"""Which deaths and messages are a lack of memory, and which are not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from openchat_local.finetune.backends.memory import tells_of_memory
from openchat_local.finetune.run.shortage import NO_MEMORY, died_of_memory, kernel_kills


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.5 GiB",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "HIP out of memory. Tried to allocate 20.00 MiB",
        "XPU out of memory, please use `empty_cache` to release all unoccupied cached memory.",
        "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
        "MPS backend out of memory (MPS allocated: 9.05 GB, max allowed: 9.07 GB)",
        "[METAL] Command buffer execution failed: Insufficient Memory (00000008:kIOGPU…Memory)",
        "[malloc_or_wait] Unable to allocate 68719476736 bytes.",
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory",
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "[metal::malloc] Attempting to allocate 9000000000 bytes in one buffer",
        "[metal::malloc] Resource limit (499000) exceeded.",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 8.00 GiB for an array",
        "[Errno 12] Cannot allocate memory",
    ],
)
def test_messages_of_a_lack_of_memory(text: str) -> None:
    assert tells_of_memory(text)


@pytest.mark.parametrize(
    "text",
    [
        "KeyError: 'blk.0.attn_q'",
        "CUDA error: an illegal memory access was encountered",
        "free(): invalid pointer",
        "malloc(): corrupted top size",
        "RuntimeError: expected scalar type Float but found BFloat16",
        "memory format option is only supported by strided tensors",
    ],
)
def test_messages_of_something_else(text: str) -> None:
    assert not tells_of_memory(text)


@pytest.mark.parametrize(
    ("code", "words", "kernel_killed", "mlx_cpu", "expected"),
    [
        (-9, "", True, False, True),
        (-9, "", None, False, True),  # no kernel that says so: macOS
        (-9, "", False, False, False),  # somebody's kill -9
        (NO_MEMORY, "", False, False, True),
        (1, "KeyError: 'out of memory'", True, False, False),
        (-6, "libc++abi: [METAL] Insufficient Memory", False, False, True),
        (-6, "double free or corruption", False, False, False),
        (-11, "", False, True, True),
        (-11, "", False, False, False),
        (-15, "", False, False, False),
    ],
)
def test_deaths(
    code: int, words: str, kernel_killed: bool | None, mlx_cpu: bool, expected: bool
) -> None:
    found = died_of_memory(code, words, kernel_killed=kernel_killed, mlx_cpu=mlx_cpu)
    assert found is expected


@pytest.mark.skipif(not Path("/proc/vmstat").exists(), reason="Linux")
def test_a_kill_by_somebody_is_not_one_of_the_kernels() -> None:
    before = kernel_kills()
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert kernel_kills() == before


@pytest.mark.skipif(os.environ.get("TORCH") == "no", reason="set up with TORCH=no")
@pytest.mark.parametrize("device", ["cpu", "cuda", "xpu", "meta"])
def test_torch_says_it_on_every_device_and_in_every_version(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from openchat_local.finetune.backends.torch.device import memory_errors

    # As in 2.6 to 2.8.
    monkeypatch.delattr(torch.accelerator, "empty_cache", raising=False)
    with pytest.raises(MemoryError, match="ALLOC_FAILED"), memory_errors(torch.device(device)):
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`")
    with pytest.raises(RuntimeError, match="illegal"), memory_errors(torch.device(device)):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
