"""What torch computes on, in which precision, and what it says when memory is short."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from openchat_local.finetune.backends.memory import tells_of_memory
from openchat_local.models.errors import OpenChatError

DType = Literal["float64", "float32", "bfloat16"]
_DTYPES: dict[DType, torch.dtype] = {
    "float64": torch.float64,  # what the others are checked against
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
}


class DeviceError(OpenChatError):
    """A device that is not here."""


@dataclass(frozen=True, slots=True)
class Precision:
    """How the base is held and multiplied.

    `dtype` is that of activations and dense weights; the adapter and its optimizer are
    float32 always. `quantised` keeps the base in its GGUF blocks, which are multiplied out
    layer by layer, exactly but for the rounding to `dtype`, or with `nf4` the layers of its
    blocks in 4-bit NormalFloat, which is near the base, not equal. Products in float32 are never
    TensorFloat-32 (torch's default): a backend that rounded them would not be the same.
    """

    dtype: DType
    quantised: bool
    nf4: bool = False

    @property
    def torch_dtype(self) -> torch.dtype:
        return _DTYPES[self.dtype]


def find_device(wanted: str = "auto") -> torch.device:
    """The device called `wanted` ("cuda:1", "mps", "cpu", …), or this machine's accelerator
    where there is one, otherwise the CPU. Raises DeviceError."""
    if wanted == "auto":
        found = torch.accelerator.current_accelerator()
        if found is None or not torch.accelerator.is_available():
            return torch.device("cpu")
        return _of_this_process(torch.device(found.type))
    try:
        device = _of_this_process(torch.device(wanted))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).splitlines()[0] if str(error) else "it is not here"
        raise DeviceError(
            f"PyTorch cannot use the device {wanted!r} ({why}): leave --device away, or name "
            "one that openchat-local finetune --dry-run chooses."
        ) from None
    return device


def device_of_rank(device: torch.device, local_rank: int, count: int) -> torch.device:
    """One process a device: a GPU named without its number ("cuda") is, of the machine's `count`,
    the one of this process's `local_rank`. A number that was given stands."""
    if ":" in str(device) or device.type not in ("cuda", "xpu"):
        return device
    return torch.device(device.type, local_rank % max(count, 1))


def _of_this_process(device: torch.device) -> torch.device:
    counts = {"cuda": torch.cuda.device_count, "xpu": torch.xpu.device_count}
    count = counts[device.type]() if device.type in counts else 1
    # `torchrun` numbers the processes of a machine.
    return device_of_rank(device, int(os.environ.get("LOCAL_RANK", "0")), count)


def device_name(device: torch.device) -> str:
    """What a person calls it."""
    match device.type:
        case "cuda":
            return torch.cuda.get_device_name(device)
        case "xpu":
            return torch.xpu.get_device_name(device)
        case "mps":
            return "Apple's GPU"
        case "cpu":
            return "the CPU"
    return str(device)


def default_dtype(device: torch.device) -> DType:
    """bfloat16 where products in it are fast: GPUs that have it, and CPUs with instructions
    for it (twice float32's speed: `make bench ARGS=finetune`); float32 elsewhere."""
    match device.type:
        case "cpu":
            known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
            found = any(getattr(torch.cpu, name, bool)() for name in known)
            return "bfloat16" if found else "float32"
        case "cuda":
            return "bfloat16" if torch.cuda.is_bf16_supported(False) else "float32"
    try:
        one = torch.ones(2, 2, device=device, dtype=torch.bfloat16)
        return "bfloat16" if (one @ one).float().sum().item() == 8 else "float32"
    except (RuntimeError, TypeError):
        return "float32"


def free_memory(device: torch.device) -> int:
    """Bytes that a run may hope for."""
    import psutil

    match device.type:
        case "cuda":
            return int(torch.cuda.mem_get_info(device)[0])
        case "xpu":
            return int(torch.xpu.mem_get_info(device)[0])
        case "mps":
            return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return int(psutil.virtual_memory().available)


def peak_memory(device: torch.device) -> int:
    """Bytes at the highest: on the device, or of this process where that is the CPU."""
    match device.type:
        case "cuda":
            return torch.cuda.max_memory_allocated(device)
        case "xpu":
            return torch.xpu.max_memory_allocated(device)
        case "mps":
            return torch.mps.driver_allocated_memory()  # it only grows, unless emptied
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def memory_errors(device: torch.device) -> Iterator[None]:
    """Raise torch's failed allocations as MemoryError, with the freed memory given back."""
    short = ""
    try:
        yield
    except RuntimeError as error:
        short = str(error)
        if not tells_of_memory(short):
            raise
    if short:  # outside of the handler: the error holds on to the tensors that filled it
        gc.collect()
        # torch.accelerator.empty_cache came with 2.9; each device's own was there before.
        if (cache := getattr(torch, device.type, None)) is not None and device.type != "cpu":
            cache.empty_cache()
        raise MemoryError(short.splitlines()[0])
