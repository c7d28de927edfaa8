"""Who is compared, from what was written."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from openchat_local.app.learning.contestants import CompareError, called
from openchat_local.models.engine.protocol import AdapterInfo, LoadedModel
from openchat_local.models.library.adapters import SCALE, AdapterLibrary
from support.adapters import expert_card, write_random_adapter
from support.openchat_gguf import openchat_vocabulary, write_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    return write_model(path, openchat_vocabulary(), embedding=64, heads=2, kv_heads=1, blocks=1)


@pytest.fixture
def loaded(base: Path) -> LoadedModel:
    return LoadedModel(
        "tiny", str(base), "llama", 512, 512, "openchat-3.5", None, "GPT4 Correct", 1, 0, 0, 0, 0.0
    )


@pytest.fixture
def library(home: Path, base: Path, tmp_path: Path) -> AdapterLibrary:
    """Two adapters, of which "older" was installed first, whatever the clock's steps."""
    library = AdapterLibrary(home / "adapters")
    for number, name in enumerate(("newer", "older")):
        file = write_random_adapter(tmp_path / f"{name}.gguf", base, number, card=expert_card(base))
        os.utime(library.add(name, file).path, (200 - number, 200 - number))
    return library


def test_without_words_the_newest_is_compared_with_what_answers_now(
    library: AdapterLibrary, loaded: LoadedModel
) -> None:
    contest = called("", loaded).contest
    assert (contest.a.side.label, contest.b.side.label) == ("newer", "tiny")
    assert (contest.a.side.condition, contest.b.side.condition) == ("Expert", "GPT4 Correct")

    older = AdapterInfo("older", str(library.info("older").path), 0.5, "Expert")
    contest = called("", replace(loaded, adapter=older)).contest
    assert (contest.b.side.adapter, contest.b.side.scale, contest.b.choice.scale) == (
        "older", 0.5, 0.5
    )  # fmt: skip

    newer = AdapterInfo("newer", str(library.info("newer").path), 1.0, "Expert")
    for words in ("", "newer"):
        contest = called(words, replace(loaded, adapter=newer)).contest
        assert (contest.a.side.label, contest.b.side.label) == ("newer", "tiny")


def test_an_adapter_answers_as_much_as_its_owner_has_noted(
    library: AdapterLibrary, loaded: LoadedModel
) -> None:
    library.note("older", {SCALE: 0.25})
    before = called("older adapter=older,scale=1", loaded)
    assert [one.choice.scale for one in (before.contest.a, before.contest.b)] == [0.25, 1.0]
    assert before.contest.b.side.label == "adapter=older,scale=1"
    assert not before.is_stale()
    library.note("older", {SCALE: 0.5})
    assert before.is_stale()


def test_nothing_is_compared_with_another_model_or_without_an_adapter(
    library: AdapterLibrary, loaded: LoadedModel, tmp_path: Path
) -> None:
    other = write_model(tmp_path / "other.gguf", openchat_vocabulary(), embedding=64, weights=False)
    with pytest.raises(CompareError, match="only one is in memory"):
        called(f"newer model={other}", loaded)
    for name in library.names():
        library.remove(name)
    with pytest.raises(CompareError, match="No adapter for tiny is installed"):
        called("", loaded)
