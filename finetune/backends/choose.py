"""Which backend trains on this machine, on which of its devices."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NotRequired, Protocol, TypedDict, Unpack

from openchat_local.finetune.adapter.lora import LoraConfig
from openchat_local.finetune.backends.group import SINGLE, Group, launched
from openchat_local.finetune.backends.model_file import Weights
from openchat_local.finetune.backends.trainer import OptimizerConfig, Trainer
from openchat_local.models.errors import OpenChatError
from openchat_local.models.gguf import GGUFFile, Tensor
from openchat_local.models.system.installing import install_command

BACKENDS = ("mlx", "torch")
PRECISIONS = ("float32", "bfloat16")
EXTRAS = {
    "mlx": ("openchat-local[mlx]", "about 190 MB"),
    "torch": ("openchat-local[torch]", "200 MB to 3 GB, by PyTorch's build"),
}
"""What is installed for a backend, and how large that is."""
NF4_BITS = 4.5  # four a value, and a float32 scale for every 64

HeldBits = Callable[[Tensor], float]
"""The bits that a value of a tensor takes in memory where a base is kept quantised."""


class BackendError(OpenChatError):
    """No backend can train here."""


class TrainerOptions(TypedDict):
    """What every trainer takes beside the device and the precision that its backend chose.

    `seed` starts the adapter and its dropout; with `checkpointing` each block is computed twice
    rather than kept; `weights` replace those in the base's file.
    """

    seed: int
    checkpointing: bool
    weights: NotRequired[Weights | None]


class MakeTrainer(Protocol):
    """Loads a base model and puts an adapter on it; `quantised` keeps the base in its blocks."""

    def __call__(
        self,
        base: GGUFFile,
        lora: LoraConfig,
        optimizer: OptimizerConfig,
        *,
        quantised: bool,
        **options: Unpack[TrainerOptions],
    ) -> Trainer: ...


@dataclass(frozen=True, slots=True)
class Backend:
    """What trains, where, and how it likes its work.

    `why` names the device and the precision, whose values take `value_bytes` each.
    `quantised` says whether the base is kept quantised; None is for the plan to decide, by
    whether it fits otherwise, and `held_bits` is what a value of a tensor takes then. `packs`
    says that long rows of several conversations are the fastest for it, rather than short
    rows of like lengths; `batch_positions` is the micro-batch beyond which it gains nothing,
    0 for none, and `quantised_batch_positions` the same where every micro-batch dequantises
    the base anew.
    `free_memory` gives the bytes that a run may hope for.
    """

    name: str
    why: str
    make: MakeTrainer
    free_memory: Callable[[], int]
    value_bytes: int = 4
    quantised: bool | None = None
    held_bits: HeldBits = field(default=lambda tensor: tensor.bits_per_value)
    packs: bool = True
    batch_positions: int = 0
    quantised_batch_positions: int = 0
    group: Group = SINGLE

    def most_positions(self, *, quantised: bool) -> int:
        """The micro-batch beyond which nothing is gained on such a base, 0 for none."""
        return self.quantised_batch_positions if quantised else self.batch_positions


def choose_backend(
    name: str = "auto", device: str = "auto", precision: str = "auto", *, nf4: bool = False
) -> Backend:
    """The backend called `name`, or the best one that is installed, on `device`; with `nf4`
    a quantised base is held in 4-bit NormalFloat.

    Joins the processes that were started with this one. Raises BackendError, DeviceError
    for a device that is not here, and NF4Error.
    """
    found = find_backend("torch" if nf4 and name == "auto" else name, device)
    if precision not in ("auto", *PRECISIONS):
        raise BackendError(
            f"There is no precision {precision!r}: choose from auto, {', '.join(PRECISIONS)}."
        )
    if found == "torch":
        return _torch(device, precision, nf4=nf4)
    if nf4:
        raise BackendError("MLX has no NF4: leave --nf4 away, or choose --backend torch.")
    return _mlx(device, precision)


def find_backend(name: str = "auto", device: str = "auto") -> str:
    """The name of the backend that `choose_backend` would choose; imports none of them.

    Raises BackendError if it is unknown or not installed.
    """
    if name not in ("auto", *BACKENDS):
        raise BackendError(
            f"There is no backend {name!r}: choose from auto, {', '.join(BACKENDS)}."
        )
    if name == "auto":
        order = backend_order(device)
        if "MLX_RANK" in os.environ:  # started by mlx.launch
            order = BACKENDS
        found = [backend for backend in order if _installed(backend)]
        if not found:
            raise BackendError(_how_to_install("Nothing that can train is installed", *order))
        return found[0]
    if not _installed(name):
        raise BackendError(_how_to_install(f"The backend {name} is not installed", name))
    return name


def backend_order(device: str = "auto") -> tuple[str, ...]:
    """The backends, the best one for this machine first, installed or not."""
    # Apple's GPU is MLX's home; everywhere else torch is the faster one.
    return BACKENDS if _apple_silicon() and device == "auto" else BACKENDS[::-1]


def _installed(name: str) -> bool:
    packages = {"mlx": ("mlx", "mlx_lm", "gguf"), "torch": ("torch", "transformers", "gguf")}
    return all(importlib.util.find_spec(package) for package in packages[name])


def _apple_silicon() -> bool:
    return sys.platform == "darwin" and platform.machine() == "arm64"


def _mlx(device: str, precision: str) -> Backend:
    if device != "auto":
        raise BackendError(
            f"MLX chooses its device itself and knows no {device!r}: leave --device away, or add "
            "--backend torch."
        )
    from openchat_local.finetune.backends.mlx.device import Precision, default_precision
    from openchat_local.finetune.backends.mlx.group import join_group
    from openchat_local.finetune.backends.mlx.repack import held_bits

    metal = _apple_silicon()
    if precision == "bfloat16" and not metal:
        # It sums its products in bfloat16 there: predictions are 0.1 nats (KL) off float32's.
        raise BackendError(
            "MLX is too inexact in bfloat16 on a CPU: leave --precision away, or add "
            "--backend torch."
        )
    preferred = default_precision()
    dtype = preferred.dtype if precision == "auto" else precision
    value_bytes = 4 if dtype == "float32" else 2
    group = join_group()

    def make(
        base: GGUFFile,
        lora: LoraConfig,
        optimizer: OptimizerConfig,
        *,
        quantised: bool,
        **options: Unpack[TrainerOptions],
    ) -> Trainer:
        from openchat_local.finetune.backends.mlx.trainer import MLXTrainer

        chosen = Precision(dtype, quantised)  # type: ignore[arg-type]
        return MLXTrainer(base, lora, optimizer, precision=chosen, group=group, **options)

    where = "Apple's GPU, by Metal" if metal else "the CPU (no GPU of Apple's here)"
    # A CPU computes every masked score of a packed row: 8 rows of 128 tokens go twice as
    # fast as one of 1,024, and larger batches no faster (`make bench ARGS=finetune`).
    return Backend(
        "mlx",
        f"{where}, {dtype}{_of(group)}",
        make,
        _free_memory,
        value_bytes=value_bytes,
        quantised=preferred.quantised,
        held_bits=lambda tensor: held_bits(tensor.type, value_bytes),
        packs=metal,
        batch_positions=0 if metal else 1024,
        quantised_batch_positions=0 if metal else 1024,
        group=group,
    )


def _torch(device: str, precision: str, *, nf4: bool) -> Backend:
    from openchat_local.finetune.backends.torch.device import (
        Precision,
        default_dtype,
        device_name,
        find_device,
        free_memory,
    )
    from openchat_local.finetune.backends.torch.group import join_group
    from openchat_local.finetune.backends.torch.packed import held_bits

    found = find_device(device)
    if nf4:
        from openchat_local.finetune.backends.torch.nf4 import quantises

        quantises(found)
    dtype = default_dtype(found) if precision == "auto" else precision
    group = join_group()

    def make(
        base: GGUFFile,
        lora: LoraConfig,
        optimizer: OptimizerConfig,
        *,
        quantised: bool,
        **options: Unpack[TrainerOptions],
    ) -> Trainer:
        from openchat_local.finetune.backends.torch.trainer import TorchTrainer

        chosen = Precision(dtype, quantised, nf4 and quantised)  # type: ignore[arg-type]
        return TorchTrainer(
            base, lora, optimizer, device=found, precision=chosen, group=group, **options
        )

    gpu = found.type != "cpu"
    value_bytes = 4 if dtype == "float32" else 2

    def bits(tensor: Tensor) -> float:
        if not nf4:
            return held_bits(tensor, value_bytes)
        layer = tensor.name.startswith("blk.") and len(tensor.shape) > 1
        return NF4_BITS if layer else 8 * value_bytes

    return Backend(
        "torch",
        f"{device_name(found)}, {dtype}{' on NF4' if nf4 else ''}{_of(group)}",
        make,
        lambda: free_memory(found),
        value_bytes=value_bytes,
        quantised=True if nf4 else None,
        held_bits=bits,
        packs=gpu,
        # 1,024 are 0 to 10 % faster and take a fifth to a half more memory.
        batch_positions=0 if gpu else 512,
        quantised_batch_positions=0 if gpu else 1024,
        group=group,
    )


def _free_memory() -> int:
    import psutil

    return int(psutil.virtual_memory().available)


def _of(group: Group) -> str:
    return f", process {group.rank + 1} of {group.size}" if group.size > 1 else ""


def _how_to_install(what: str, *names: str) -> str:
    ways = (f"{install_command(EXTRAS[name][0])} ({EXTRAS[name][1]})" for name in names)
    return f"{what}: {' or '.join(ways)}, then try again."


def is_first_process() -> bool:
    """Whether this process is the one of its group that writes and speaks."""
    return launched()[0] == 0
