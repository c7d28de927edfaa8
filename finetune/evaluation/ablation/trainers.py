"""Trainers for one run after the other: a base is loaded once."""

from __future__ import annotations

from pathlib import Path

from openchat_local.finetune.adapter.gguf_file import read_gguf_adapter
from openchat_local.finetune.backends.choose import Backend, choose_backend
from openchat_local.finetune.backends.trainer import Trainer
from openchat_local.finetune.data.epoch import Layout
from openchat_local.finetune.run.job import new_trainer
from openchat_local.finetune.run.plan import Plan, keeps_quantised
from openchat_local.finetune.run.settings import RunSettings
from openchat_local.models.gguf import GGUFFile, read_gguf

BATCH_POSITIONS = 4096  # where a backend has no limit of its own


class KeptTrainer:
    """Makes the trainer of a run, or begins the last one anew where it would be the same but for
    its seed."""

    def __init__(self) -> None:
        self._trainer: Trainer | None = None
        self._base: object = None
        self._how: object = None

    def __call__(
        self, backend: Backend, base: GGUFFile, settings: RunSettings, plan: Plan
    ) -> Trainer:
        """Raises what loading a base raises."""
        of, how = _base_of(backend, base, settings), (plan.checkpointing, plan.quantised)
        if self._trainer is not None and (of, how) == (self._base, self._how):
            self._trainer.begin(settings.seed)
            return self._trainer
        self._trainer = None  # its memory is free before another one loads
        self._trainer = new_trainer(backend, base, settings, plan)
        self._base, self._how = of, how
        return self._trainer

    def any(self, backend: Backend, base: GGUFFile, settings: RunSettings) -> Trainer | None:
        """The last one if it can measure what such a run has trained, begun anew."""
        if self._trainer is None or _base_of(backend, base, settings) != self._base:
            return None
        self._trainer.begin(settings.seed)
        return self._trainer


def _base_of(backend: Backend, base: GGUFFile, settings: RunSettings) -> object:
    return backend.name, backend.why, base.path, settings.lora, settings.optimizer, settings.weights


def measuring_trainer(
    kept: KeptTrainer, settings: RunSettings, evaluator: str, adapter: Path | None
) -> tuple[Trainer, int]:
    """A trainer of the backend `evaluator` that holds the adapter in the file, or one that changes
    nothing; and how many positions a batch may have.

    Raises what loading a base raises, AdapterError, or LoraError.
    """
    own = evaluator == settings.backend
    device, precision = (settings.device, settings.precision) if own else ("auto", "auto")
    backend = choose_backend(evaluator, device, precision, nf4=settings.nf4 and own)
    base = read_gguf(settings.base)
    quantised = settings.quantised
    if quantised is None:
        quantised = keeps_quantised(base, backend, backend.free_memory())
    trainer = kept.any(backend, base, settings)
    if trainer is None:
        trainer = kept(backend, base, settings, _measuring_plan(quantised=quantised))
    if adapter is not None:
        weights, _, _ = read_gguf_adapter(adapter)
        trainer.set_lora(weights)
    return trainer, backend.most_positions(quantised=quantised) or BATCH_POSITIONS


def _measuring_plan(*, quantised: bool) -> Plan:
    """Of a plan, what a trainer is made by: nothing is kept for a backward pass."""
    layout = Layout(1, 1, 1)
    return Plan(layout, 0, 0.0, 1, False, 0, 0, quantised=quantised)
