"""Our own server over a tiny model with one adapter, for engines that ask it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openchat_local.app.server.starting import Wishes, serving_of
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import (
    EngineOptions,
    Finished,
    GenerationRequest,
    Sampling,
)
from openchat_local.models.engine.remote.address import read_address
from openchat_local.models.engine.remote.engine import RemoteEngine
from openchat_local.models.engine.remote.options import RemoteOptions
from openchat_local.models.library.adapters import AdapterLibrary
from support.adapters import write_random_adapter
from support.engines import asking, run
from support.openai_like import Bare
from support.openchat_gguf import openchat_vocabulary, write_model
from support.serving import running

CONTEXT = 1024


@dataclass(frozen=True)
class Other:
    """The server's URL, and what it serves: "openchat-tiny", and the adapter "mine" of it."""

    url: str
    model: Path
    adapter: Path
    engine: LocalEngine

    def remote(self, model: str = "") -> RemoteEngine:
        """An engine that asks it."""
        return remote_engine(self.url, model)


def remote_engine(url: str, model: str = "", *, label: str = "", **options: object) -> RemoteEngine:
    """An engine at a URL."""
    address = read_address(url)
    fields: dict[str, object] = {"silent_seconds": 90.0, **options}
    return RemoteEngine(RemoteOptions(address, label or address.label, model, **fields))  # type: ignore[arg-type]


@contextmanager
def other_program(folder: Path) -> Iterator[Other]:
    """One that runs until the block ends."""
    base = write_model(
        folder / "openchat-tiny.gguf", openchat_vocabulary(), name="openchat-3.5",
        embedding=64, heads=2, kv_heads=1, blocks=1, feed_forward=64, precision=np.float32,
    )  # fmt: skip
    library = AdapterLibrary(folder / "adapters")
    adapter = write_random_adapter(folder / "mine.gguf", base, 1, size=0.5)
    library.add("mine", adapter)
    engine = LocalEngine(EngineOptions(base, context=CONTEXT, threads=1))
    with closing(engine):
        serving = serving_of(engine, library, Wishes(Sampling(max_tokens=64)))
        with running(serving) as client:
            yield Other(client.url, base, adapter, engine)
        serving.bridge.close()


def said_by(bare: Bare, request: GenerationRequest | None = None) -> tuple[str, Finished]:
    """A reply of a server, by an engine that is new to it."""
    with closing(remote_engine(bare.url)) as engine:
        return run(engine, request or asking("Hello?"))
