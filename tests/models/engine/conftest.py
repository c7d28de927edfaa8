from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions


@pytest.fixture(scope="module")
def engine(starter_path: Path) -> Iterator[LocalEngine]:
    """The starter, loaded once for a whole file of tests."""
    engine = LocalEngine(EngineOptions(starter_path, context=2048))
    yield engine
    engine.close()
