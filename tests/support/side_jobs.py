"""Jobs beside the replies, in the test's own process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from openchat_local.models.engine.decoding.llamacpp import Adapter, Model
from openchat_local.models.engine.decoding.loaded_adapters import ActiveAdapter
from openchat_local.models.engine.decoding.runner import Cancels
from openchat_local.models.engine.decoding.side_context import SideSettings
from openchat_local.models.engine.decoding.side_job import Beside, SideJob
from openchat_local.models.engine.protocol import AdapterChoice

SIZE = 1024


def beside(model: Model, adapters: Mapping[Path, Adapter] | None = None) -> Beside:
    """An engine of one thread with a context of SIZE; adapters are known by their paths."""

    def in_force(choice: AdapterChoice | None) -> ActiveAdapter:
        if choice is None or choice.path is None:
            return ActiveAdapter("", "")
        weights = (adapters or {})[choice.path]
        return ActiveAdapter(str(choice.path), "", weights=weights, scale=choice.scale)

    return Beside(model, SideSettings(size=SIZE, threads=1), in_force, Cancels())


def run_job(job: SideJob, seconds: float | None = None) -> None:
    """To its end, with so long for each step."""
    try:
        while not job.done:
            job.step(seconds)
    finally:
        job.close()


def fail(error: Exception) -> None:
    raise error
