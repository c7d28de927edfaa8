"""The processes of a run: one, or several with a device each that share every step.

`torchrun`, `accelerate launch` and `mlx.launch` start the same command several times. All
make the same plan and the same decisions; only rank 0 writes and speaks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from openchat_local.finetune.backends.trainer import ClassSums

Item = TypeVar("Item")


class Group(Protocol):
    """Every method but `share` is called by all processes at the same place."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def all_well(self, well: bool) -> bool:
        """Whether every process says so."""

    def sum_classes(self, classes: Mapping[int, ClassSums]) -> dict[int, ClassSums]:
        """The sums of all processes, in float64."""

    def sum_tensors(self, tensors: list[Any]) -> None:
        """Replace the backend's own float32 arrays in the list by their sums over all processes."""

    def from_first(self, value: Any) -> Any:
        """What rank 0 gave; JSON values."""

    def array_from_first(self, values: np.ndarray) -> np.ndarray:
        """The array that rank 0 gave; all give one of its shape."""

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's part of `items`."""


class SingleProcess:
    """A group of one."""

    rank = 0
    size = 1

    def all_well(self, well: bool) -> bool:
        return well

    def sum_classes(self, classes: Mapping[int, ClassSums]) -> dict[int, ClassSums]:
        return dict(classes)

    def sum_tensors(self, tensors: list[Any]) -> None:
        pass

    def from_first(self, value: Any) -> Any:
        return value

    def array_from_first(self, values: np.ndarray) -> np.ndarray:
        return values

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        return items


SINGLE = SingleProcess()


class SummingGroup:
    """A group that can add up float64 arrays: `sum_array` is what a backend brings."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def sum_array(self, values: np.ndarray) -> np.ndarray:
        """The sum over all processes of a float64 array of the same shape."""
        raise NotImplementedError

    def all_well(self, well: bool) -> bool:
        return bool(self.sum_array(np.array([0.0 if well else 1.0]))[0] == 0)

    def sum_classes(self, classes: Mapping[int, ClassSums]) -> dict[int, ClassSums]:
        highest = np.zeros(self.size)
        highest[self.rank] = max(classes, default=-1) + 1
        table = np.zeros((int(self.sum_array(highest).max()), 5))
        for index, sums in classes.items():
            table[index] = (
                sums.weighted_loss, sums.weight, sums.loss, sums.tokens, sums.correct,
            )  # fmt: skip
        found = self.sum_array(table)
        return {
            index: ClassSums(float(row[0]), float(row[1]), float(row[2]), int(row[3]), int(row[4]))
            for index, row in enumerate(found)
            if row[3]
        }

    def from_first(self, value: Any) -> Any:
        data = json.dumps(value).encode() if self.rank == 0 else b""
        length = int(self.sum_array(np.array([float(len(data))]))[0])
        octets = np.zeros(length)
        octets[: len(data)] = np.frombuffer(data, np.uint8)
        return json.loads(self.sum_array(octets).astype(np.uint8).tobytes())

    def array_from_first(self, values: np.ndarray) -> np.ndarray:
        mine = values if self.rank == 0 else np.zeros_like(values)
        return self.sum_array(mine.astype(np.float64)).astype(values.dtype)

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        return items[self.rank :: self.size]


def launched() -> tuple[int, int]:
    """(rank, size) as `torchrun`, `accelerate launch` or `mlx.launch` set them; (0, 1) without."""
    environment = os.environ
    if "WORLD_SIZE" in environment:
        return int(environment.get("RANK", "0")), int(environment["WORLD_SIZE"])
    if "MLX_RANK" in environment:
        hosts = environment.get("MLX_HOSTFILE")
        size = environment.get("MLX_WORLD_SIZE")
        if size is None and hosts is not None:
            with open(hosts, encoding="utf-8") as file:
                size = str(len(json.load(file)))
        return int(environment["MLX_RANK"]), int(size or 1)
    return 0, 1
