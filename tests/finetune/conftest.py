"""Every template family on a real vocabulary that fits it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from openchat_local.models.gguf import read_gguf
from openchat_local.models.template import Template, choose_template
from openchat_local.models.vocabulary import Vocabulary

VOCABULARY_OF_FAMILY = {
    "openchat-3.2": "openchat",
    "openchat-3.5": "openchat",
    "openchat-3.6": "llama-3",
    "chatml": "chatml-mistral",
    "llama-3": "llama-3",
    "gemma": "gemma",
    "zephyr": "zephyr",
}


@pytest.fixture(scope="session")
def template_of(
    model_path: Callable[[str], Path], vocabulary_of: Callable[[str], Vocabulary]
) -> Callable[[str], Template]:
    """The template of that family; "starter" is ChatML with a default system prompt."""

    @cache
    def template(family: str) -> Template:
        name = "starter" if family == "starter" else VOCABULARY_OF_FAMILY[family]
        override = None if family == "starter" else family
        return choose_template(read_gguf(model_path(name)), vocabulary_of(name), override)

    return template
