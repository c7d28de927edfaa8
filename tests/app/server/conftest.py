from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from openchat_local.app.server.bridge import Bridge
from openchat_local.app.server.metrics import Metrics
from openchat_local.app.server.places import Places
from openchat_local.app.server.starting import Wishes, serving_of
from openchat_local.app.server.state import Serving
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions, Sampling
from openchat_local.models.library.adapters import AdapterLibrary
from support.adapters import write_random_adapter
from support.openchat_gguf import openchat_vocabulary, write_model
from support.serving import Client, running

CONTEXT = 8192  # a reply without a limit takes seconds


@dataclass(frozen=True)
class World:
    """A tiny OpenChat, two adapters, an engine, and a server over it."""

    folder: Path
    base: Path
    library: AdapterLibrary
    engine: LocalEngine
    serving: Serving
    said: list[str] = field(default_factory=list)
    bugs: list[Exception] = field(default_factory=list)

    def another(self, running: int = 8, waiting: int = 32) -> Serving:
        """The same with places of its own, for one more server over the same engine."""
        return replace(
            self.serving,
            bridge=Bridge(self.engine, running),
            places=Places(running, waiting),
            metrics=Metrics(),
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("server")
    base = write_model(
        folder / "openchat-3.5-tiny.gguf", openchat_vocabulary(), name="openchat-3.5",
        embedding=64, heads=2, kv_heads=1, blocks=1, feed_forward=64, precision=np.float32,
    )  # fmt: skip
    library = AdapterLibrary(folder / "adapters")
    for seed, name in enumerate(("mine", "yours"), 1):
        library.add(name, write_random_adapter(folder / f"{name}.gguf", base, seed, size=0.5))
    said: list[str] = []
    bugs: list[Exception] = []
    engine = LocalEngine(EngineOptions(base, context=CONTEXT, threads=1))
    wishes = Wishes(Sampling(max_tokens=64), log=said.append, report=bugs.append)
    with closing(engine):
        serving = serving_of(engine, library, wishes)
        yield World(folder, base, library, engine, serving, said, bugs)
        serving.bridge.close()
    assert bugs == []


@pytest.fixture(scope="module")
def client(world: World) -> Iterator[Client]:
    with running(world.serving) as client:
        yield client
