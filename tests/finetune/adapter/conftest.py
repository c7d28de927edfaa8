"""Models to put adapters on, as float32 so that logits can be compared closely."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.adapters import write_f32
from support.openchat_gguf import openchat_vocabulary, write_model


@pytest.fixture(scope="session")
def tiny_f16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OpenChat's vocabulary and shape, two blocks of random numbers."""
    return write_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf", openchat_vocabulary())


@pytest.fixture(scope="session")
def tiny_f32(tiny_f16: Path) -> Path:
    return write_f32(tiny_f16, tiny_f16.with_name("tiny-f32.gguf"))
