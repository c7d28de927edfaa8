"""Several processes that `mlx.launch` started, as one run."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from openchat_local.finetune.backends.group import Group, SingleProcess, SummingGroup, launched


class MLXGroup(SummingGroup):
    """Over MLX's ring, or whatever else `mlx.launch` was told to use."""

    def __init__(self) -> None:
        self._group = mx.distributed.init(strict=True)
        super().__init__(self._group.rank(), self._group.size())

    def sum_array(self, values: np.ndarray) -> np.ndarray:
        # Metal has no float64, and the ring is the CPU's anyway.
        with mx.stream(mx.cpu):
            array = mx.array(values.astype(np.float64), dtype=mx.float64)
            summed = mx.distributed.all_sum(array, group=self._group)
            mx.eval(summed)
            return np.array(summed)

    def sum_tensors(self, tensors: list[Any]) -> None:
        flat = mx.concatenate([tensor.reshape(-1) for tensor in tensors])
        summed = mx.distributed.all_sum(flat, group=self._group)
        ends = np.cumsum([tensor.size for tensor in tensors])[:-1].tolist()
        for index, part in enumerate(mx.split(summed, ends)):
            tensors[index] = part.reshape(tensors[index].shape)


def join_group() -> Group:
    """The group that this process was started in."""
    _, size = launched()
    return SingleProcess() if size == 1 else MLXGroup()
