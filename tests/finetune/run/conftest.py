from __future__ import annotations

from pathlib import Path

import pytest

from support.openchat_gguf import openchat_vocabulary, write_model


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in OpenChat's shape, with its real vocabulary."""
    path = tmp_path_factory.mktemp("models") / "tiny-openchat-3.5.gguf"
    write_model(
        path,
        openchat_vocabulary("control"),
        name="tiny openchat-3.5",
        chat_template=None,
        context=512,
        blocks=2,
        embedding=64,
        heads=4,
        kv_heads=2,
        feed_forward=128,
    )
    return path
