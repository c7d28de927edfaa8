"""Which quantisation suits this machine, and how well a model fits into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from openchat_local.models.memory import (
    DEFAULT_CONTEXT,
    MachineMemory,
    ModelShape,
    Verdict,
    predict_from_shape,
    verdict,
)
from openchat_local.models.units import memory_in_words

# From the one that is wanted to the one that is better than nothing. Q4_K_M is where most
# of a model's quality is kept at a third of its size, and decoding is as fast as the weights
# are small: a better one is for whoever asks for it.
LADDER = ("Q4_K_M", "Q4_K_S", "Q4_0", "IQ4_NL", "IQ4_XS", "Q3_K_M", "Q3_K_S", "Q2_K")


class Offered(Protocol):
    """A file that could be fetched: `bytes` is its size, `quantisation` None if unknown."""

    @property
    def bytes(self) -> int: ...
    @property
    def quantisation(self) -> str | None: ...


File = TypeVar("File", bound=Offered)


@dataclass(frozen=True, slots=True)
class Suitability:
    """How well a model fits, and what it needs, in bytes, with a chat's context."""

    verdict: Verdict
    need: int


def suitability_of(
    shape: ModelShape | None,
    weight_bytes: int,
    trained_context: int,
    machine: MachineMemory,
    kv_type: str = "f16",
) -> Suitability:
    """How a model fits with the context that a chat gets unless it asks for another. Where
    the shape is unknown, an eighth of the weights stands for the rest."""
    context = min(trained_context or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    if shape is None:
        need = weight_bytes + weight_bytes // 8
    else:
        need = predict_from_shape(shape, weight_bytes, context, kv_type=kv_type).total
    return Suitability(verdict(need, machine), need)


def choose_quantisation(
    files: Sequence[File],
    machine: MachineMemory,
    shape: ModelShape | None = None,
    trained_context: int = 0,
    kv_type: str = "f16",
) -> tuple[File, str]:
    """The file to fetch out of `files`, which are not empty, and a sentence that says why."""
    if len(files) == 1:
        return files[0], f"{_called(files[0])} is the only file there."
    climbing = sorted(files, key=lambda file: (_rung(file), file.bytes))
    fits = {
        id(file): suitability_of(shape, file.bytes, trained_context, machine, kv_type)
        for file in files
    }
    for wanted in ("fits", "tight"):
        for file in climbing:
            if fits[id(file)].verdict == wanted:
                return file, _reason(file, climbing[0], fits[id(file)], machine)
    smallest = min(files, key=lambda file: file.bytes)
    return smallest, (
        f"{_called(smallest)} is the smallest, and still does not fit: it needs "
        f"{memory_in_words(fits[id(smallest)].need)} of memory and "
        f"{memory_in_words(machine.available)} is free."
    )


def _rung(file: Offered) -> int:
    """Where a file stands on the ladder; what is not on it comes after, smallest first."""
    return LADDER.index(file.quantisation) if file.quantisation in LADDER else len(LADDER)


def _reason(file: Offered, best: Offered, fit: Suitability, machine: MachineMemory) -> str:
    memory = f"{memory_in_words(fit.need)} of memory, {memory_in_words(machine.available)} is free"
    if file is best and fit.verdict == "fits":
        return (
            f"{_called(file)} keeps most of the quality at a third of the original size ({memory})."
        )
    if fit.verdict == "fits":
        return f"{_called(file)} is the best that fits this machine ({memory})."
    return f"{_called(file)} is the best that this machine can hold, and tight ({memory})."


def _called(file: Offered) -> str:
    return file.quantisation or "The file"
