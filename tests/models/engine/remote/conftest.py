from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.openai_like import Bare, bare_server
from support.other_program import Other, other_program


@pytest.fixture
def bare() -> Iterator[Bare]:
    """A server that does what OpenAI's does, and no more."""
    with bare_server() as bare:
        yield bare


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Other]:
    """Our own server."""
    with other_program(tmp_path_factory.mktemp("other")) as other:
        yield other
