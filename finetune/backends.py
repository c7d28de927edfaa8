"""Which backend trains on this machine."""

from __future__ import annotations

import importlib.util
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from openchat_local.finetune.trainer import LoraConfig, OptimizerConfig, Trainer
from openchat_local.models.errors import OpenChatError
from openchat_local.models.gguf import GGUFFile


class BackendError(OpenChatError):
    """No backend can train here."""


class MakeTrainer(Protocol):
    """Loads a base model and puts an adapter on it."""

    def __call__(
        self,
        base: GGUFFile,
        lora: LoraConfig,
        optimizer: OptimizerConfig,
        *,
        seed: int,
        checkpointing: bool,
    ) -> Trainer: ...


@dataclass(frozen=True, slots=True)
class Backend:
    """What trains, and how it likes its work.

    `dense_base` says that the base is held as float32, whatever the file holds. `packs`
    says that long rows of several conversations are the fastest for it, rather than short
    rows of like lengths; `batch_positions` is the micro-batch beyond which it gains
    nothing, 0 for none.
    """

    name: str
    why: str
    dense_base: bool
    make: MakeTrainer
    packs: bool = True
    batch_positions: int = 0


def choose_backend(name: str = "auto") -> Backend:
    """The backend called `name`, or the best one that is installed. Raises BackendError."""
    if name not in ("auto", *_BACKENDS):
        raise BackendError(
            f"There is no backend {name!r}: choose from auto, {', '.join(_BACKENDS)}."
        )
    for found in _BACKENDS if name == "auto" else (name,):
        backend = _BACKENDS[found]()
        if backend is not None:
            return backend
    raise BackendError(_how_to_install())


def _mlx() -> Backend | None:
    if not all(importlib.util.find_spec(package) for package in ("mlx", "mlx_lm")):
        return None

    def make(
        base: GGUFFile,
        lora: LoraConfig,
        optimizer: OptimizerConfig,
        *,
        seed: int,
        checkpointing: bool,
    ) -> Trainer:
        from openchat_local.finetune.mlx.trainer import MLXTrainer

        return MLXTrainer(base, lora, optimizer, seed=seed, checkpointing=checkpointing)

    metal = sys.platform == "darwin" and platform.machine() == "arm64"
    why = "Apple's GPU, by Metal" if metal else "the CPU (no GPU of Apple's here)"
    if metal:
        return Backend("mlx", why, dense_base=False, make=make)
    # A CPU computes every masked score of a packed row: 8 rows of 128 tokens go twice as
    # fast as one of 1,024, and larger batches no faster (`make bench ARGS=finetune`).
    return Backend("mlx", why, dense_base=True, make=make, packs=False, batch_positions=1024)


_BACKENDS: dict[str, Callable[[], Backend | None]] = {"mlx": _mlx}


def _how_to_install() -> str:
    return (
        "Nothing that can train is installed: pip install 'openchat-local[mlx]' "
        "(about 190 MB), then try again."
    )
