"""What all endpoints share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from openchat_local.app.server.bridge import Bridge
from openchat_local.app.server.metrics import Metrics
from openchat_local.app.server.places import Places
from openchat_local.app.server.remembered import Remembered
from openchat_local.app.server.served import ServedModels
from openchat_local.models.engine.protocol import Engine, LoadedModel, Sampling, VocabularyFacts


@dataclass(frozen=True, slots=True)
class Serving:
    """One engine and what is served from it. `sampling` is what holds where a request says
    nothing; `log` gets a line for each request, `log_text` says whether with its text;
    `report` gets what nobody foresaw."""

    engine: Engine
    loaded: LoadedModel
    vocabulary: VocabularyFacts
    models: ServedModels
    sampling: Sampling
    bridge: Bridge
    places: Places
    remembered: Remembered
    metrics: Metrics = field(default_factory=Metrics)
    log: Callable[[str], None] = lambda line: None
    log_text: bool = False
    report: Callable[[Exception], None] = lambda error: None
