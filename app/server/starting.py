"""From an engine to what is served from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from openchat_local.app.server.bridge import Around, Bridge
from openchat_local.app.server.places import Places
from openchat_local.app.server.remembered import Remembered
from openchat_local.app.server.served import ServedModels
from openchat_local.app.server.state import Serving
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.protocol import Engine, Sampling
from openchat_local.models.library.adapters import AdapterLibrary

WAITING = 32
"""How many requests may wait for their turn."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is served beside the model itself, and how: see `ServedModels`, `Serving` and, for what
    is `around` a reply, `Bridge`. `states` is where the engine keeps the states of conversations
    that are gone on with, None where it is to keep none."""

    sampling: Sampling = field(default_factory=Sampling)
    named: Mapping[str, Path] = field(default_factory=dict)
    default: str | None = None
    condition: str | None = None
    force: bool = False
    waiting: int = WAITING
    log: Callable[[str], None] = lambda line: None
    log_text: bool = False
    report: Callable[[Exception], None] = lambda error: None
    around: Around = nullcontext
    states: Path | None = None


def serving_of(engine: Engine, library: AdapterLibrary, wishes: Wishes) -> Serving:
    """`engine`, which has no adapter in force, and the adapters of `library`; loads the model,
    and blocks until it is there. Raises OpenChatError."""
    loaded = engine.load()
    models = ServedModels(
        loaded,
        library,
        named=wishes.named,
        default=wishes.default,
        condition=wishes.condition,
        conditions=_writes_conditions(engine),
        force=wishes.force,
    )
    models.find(None)  # the adapter that was asked for may not fit
    return Serving(
        engine=engine,
        loaded=loaded,
        vocabulary=engine.vocabulary(),
        models=models,
        sampling=wishes.sampling,
        bridge=Bridge(engine, loaded.sequences, wishes.around),
        places=Places(loaded.sequences, wishes.waiting),
        remembered=Remembered(engine, wishes.states),
        log=wishes.log,
        log_text=wishes.log_text,
        report=wishes.report,
    )


def _writes_conditions(engine: Engine) -> bool:
    """Whether a condition makes another prompt: most templates have no place for one."""
    asked = (Message("user", "?"),)
    prompts = [engine.render(Conversation(asked, condition)).ids for condition in ("", "Any")]
    return prompts[0] != prompts[1]
