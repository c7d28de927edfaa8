"""Several processes that `torchrun` or `accelerate launch` started, as one run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from openchat_local.finetune.backends.group import Group, SingleProcess, SummingGroup, launched

# Loading a large base from a cold disk may keep one process behind the others.
_PATIENCE = timedelta(minutes=30)


class TorchGroup(SummingGroup):
    """Over gloo for what is small and in float64, over NCCL for gradients on CUDA."""

    def __init__(self) -> None:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=_PATIENCE)
        super().__init__(dist.get_rank(), dist.get_world_size())

    def sum_array(self, values: np.ndarray) -> np.ndarray:
        summed = torch.from_numpy(values.astype(np.float64))
        dist.all_reduce(summed)
        return summed.numpy()

    def sum_tensors(self, tensors: list[Any]) -> None:
        flat = torch.cat([tensor.ravel() for tensor in tensors])
        carried = flat if flat.device.type in ("cpu", "cuda") else flat.cpu()
        dist.all_reduce(carried)
        parts = torch.split(carried.to(flat.device), [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


def join_group() -> Group:
    """The group that this process was started in."""
    _, size = launched()
    if size == 1:
        return SingleProcess()
    return TorchGroup()
