"""Adapters swapped in a running engine: each answers as itself, and nothing is loaded again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions, LoadedModel, TextDelta
from openchat_local.models.errors import AdapterError, ModelFileError
from openchat_local.models.gguf import read_gguf
from openchat_local.models.library.adapter_file import AdapterCard
from openchat_local.models.library.identity import identity_of
from support.adapters import expert_card, write_random_adapter
from support.engines import asking, run
from support.openchat_gguf import openchat_vocabulary, write_model
from support.quantised import quantised

STORY = "Once upon a time there was a small river that wanted to be the sea. " * 15


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapters")


@pytest.fixture(scope="module")
def first(folder: Path, starter_path: Path) -> Path:
    return write_random_adapter(folder / "first.gguf", starter_path, seed=1)


@pytest.fixture(scope="module")
def second(folder: Path, starter_path: Path) -> Path:
    card = expert_card(starter_path, condition="")
    return write_random_adapter(folder / "second.gguf", starter_path, seed=2, card=card)


@pytest.fixture(scope="module")
def shared(starter_path: Path) -> Iterator[LocalEngine]:
    engine = LocalEngine(EngineOptions(starter_path, context=2048, threads=1))
    yield engine
    engine.close()


@pytest.fixture
def engine(shared: LocalEngine) -> LocalEngine:
    """The starter, loaded once for this whole file, without an adapter."""
    shared.set_adapter(None)
    return shared


def test_each_adapter_answers_as_itself_in_one_process(
    engine: LocalEngine, first: Path, second: Path, starter_path: Path
) -> None:
    request = asking("Name three animals.", max_tokens=12)
    alone: dict[Path | None, str] = {}
    for path in (first, second, None):
        options = EngineOptions(starter_path, context=2048, threads=1, adapter=path)
        with closing(LocalEngine(options)) as fresh:
            alone[path], _ = run(fresh, request)
    assert len(set(alone.values())) == 3

    engine.load()
    pid, loads = engine.pid, engine.loads
    for path, before in ((first, False), (second, False), (None, False), (first, True)):
        engine.set_adapter(path)
        reply, finished = run(engine, request)
        assert reply == alone[path]
        # Cells belong to the adapter that computed them, and are still there when it comes back.
        assert finished.usage.evaluated_tokens == (1 if before else finished.usage.prompt_tokens)
        assert finished.adapter == (path and path.stem)
        _, warm = run(engine, request)
        assert warm.usage.reused_tokens == warm.usage.prompt_tokens - 1
    assert (engine.pid, engine.loads) == (pid, loads)


def test_the_scale_multiplies_the_effect(engine: LocalEngine, first: Path) -> None:
    request = asking("Name three animals.", max_tokens=12)
    plain, _ = run(engine, asking("Name three animals.", max_tokens=12))
    # The same condition for all, or the prompts would differ.
    request = replace(request, conversation=replace(request.conversation, condition=""))
    engine.set_adapter(first, 0.0)
    assert run(engine, request)[0] == plain
    engine.set_adapter(first, 1.0)
    assert run(engine, request)[0] != plain


def test_the_experts_condition_is_the_default_while_the_adapter_is_in_force(
    engine: LocalEngine, first: Path, second: Path
) -> None:
    def prompt(condition: str | None = None) -> str:
        conversation = Conversation((Message("user", "Hi"),), condition)
        return "".join(engine.render(conversation).pieces)

    loaded = engine.set_adapter(first)
    assert loaded.adapter is not None
    assert (loaded.adapter.name, loaded.adapter.condition) == ("first", "Expert")
    assert (loaded.adapter.path, loaded.adapter.scale) == (str(first), 1.0)
    assert loaded.default_condition == "Expert"
    assert engine.load() == loaded
    assert "<|im_start|>Expert user\nHi" in prompt()
    assert "<|im_start|>GPT3 user\nHi" in prompt("GPT3")
    assert "<|im_start|>user\nHi" in prompt("")

    assert engine.set_adapter(second).default_condition == ""
    plain = engine.set_adapter(None)
    assert (plain.adapter, plain.default_condition) == (None, "")
    assert "<|im_start|>user\nHi" in prompt()


def test_an_adapter_of_unknown_making_is_used_with_a_word_of_doubt(
    engine: LocalEngine, folder: Path, starter_path: Path
) -> None:
    path = write_random_adapter(folder / "stray.gguf", starter_path, card=AdapterCard())
    loaded = engine.set_adapter(path)
    assert loaded.adapter is not None
    assert loaded.adapter.condition is None
    assert loaded.default_condition == ""
    assert any("does not say which model" in note for note in loaded.notes)
    assert engine.set_adapter(None).notes == ()


def test_another_template_than_in_training_is_told(
    engine: LocalEngine, folder: Path, starter_path: Path
) -> None:
    card = replace(expert_card(starter_path), template="openchat-3.5")
    path = write_random_adapter(folder / "other-template.gguf", starter_path, card=card)
    assert any("openchat-3.5" in note for note in engine.set_adapter(path).notes)


def test_what_cannot_be_used_is_one_sentence_and_changes_nothing(
    engine: LocalEngine, folder: Path, first: Path, starter_path: Path
) -> None:
    tiny = write_model(folder / "tiny.gguf", openchat_vocabulary())
    for_tiny = write_random_adapter(folder / "for-tiny.gguf", tiny)
    no_base = replace(expert_card(tiny), base_fingerprint=None)
    wrong_shapes = write_random_adapter(folder / "shapes.gguf", tiny, card=no_base)
    other_architecture = folder / "qwen.gguf"
    data = first.read_bytes()
    other_architecture.write_bytes(data.replace(b"llama", b"qwen2", 1))
    cut = folder / "cut.gguf"
    cut.write_bytes(data[: len(data) // 2])

    engine.set_adapter(first)
    request = asking("Name three animals.", max_tokens=8)
    expected, _ = run(engine, request)
    for path, kind, says in (
        (for_tiny, AdapterError, "was trained on starter, whose fingerprint"),
        (wrong_shapes, AdapterError, "changes blk.0.attn_k.weight by 4×256 and 128×4"),
        (other_architecture, AdapterError, "'qwen2'"),
        (cut, ModelFileError, "bytes short"),
        (starter_path, AdapterError, "is a model, not an adapter"),
        (folder / "gone.gguf", AdapterError, "gone.gguf cannot be read"),
        (folder, ModelFileError, "is a directory"),
    ):
        with pytest.raises(kind, match=says) as raised:
            engine.set_adapter(path)
        assert "\n" not in str(raised.value)
        reply, finished = run(engine, request)
        assert (reply, finished.adapter) == (expected, "first")
        assert finished.usage.reused_tokens > 0  # not even the cache was touched


def test_a_reply_in_progress_is_finished_by_the_adapter_that_began_it(
    engine: LocalEngine, first: Path
) -> None:
    engine.set_adapter(first)
    request = asking("Write a long poem.", max_tokens=60)
    run(engine, request)  # the next two evaluate the same one token of the prompt
    expected, _ = run(engine, request)
    text = ""
    for event in engine.generate(request):
        if isinstance(event, TextDelta):
            if not text:
                assert engine.set_adapter(None).adapter is None
            text += event.text
    assert text == expected


def test_a_file_that_has_changed_is_read_again(
    engine: LocalEngine, folder: Path, starter_path: Path
) -> None:
    path = write_random_adapter(folder / "retrained.gguf", starter_path, seed=1)
    engine.set_adapter(path)
    before, _ = run(engine, asking("Name three animals.", max_tokens=8))
    write_random_adapter(path, starter_path, seed=2)
    engine.set_adapter(path)
    after, finished = run(engine, asking("Name three animals.", max_tokens=8))
    assert before != after
    assert finished.usage.reused_tokens == 0


def test_the_adapter_comes_back_with_a_new_child(starter_path: Path, first: Path) -> None:
    with closing(LocalEngine(EngineOptions(starter_path, context=512, threads=1))) as engine:
        engine.set_adapter(first)
        expected, _ = run(engine, asking("Hi", max_tokens=4))
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        time.sleep(0.2)
        reply, finished = run(engine, asking("Hi", max_tokens=4))
        assert (reply, finished.adapter, engine.loads) == (expected, "first", 2)


def test_a_bad_adapter_at_the_start_can_be_done_without(starter_path: Path, folder: Path) -> None:
    options = EngineOptions(starter_path, context=512, threads=1, adapter=folder / "nowhere.gguf")
    with closing(LocalEngine(options)) as engine:
        with pytest.raises(AdapterError, match=r"nowhere\.gguf"):
            engine.load()
        assert engine.set_adapter(None).adapter is None
        assert run(engine, asking("Hi", max_tokens=2))[1].usage.generated_tokens == 2


def test_a_vocabulary_alone_takes_the_condition(starter_path: Path, first: Path) -> None:
    options = EngineOptions(starter_path, vocab_only=True, adapter=first)
    with closing(LocalEngine(options)) as engine:
        rendered = engine.render(Conversation((Message("user", "Hi"),)))
    assert "<|im_start|>Expert user\n" in "".join(rendered.pieces)


def loaded_with(adapter: Path, base: Path, *, forced: bool = False) -> LoadedModel:
    options = EngineOptions(base, vocab_only=True, adapter=adapter, adapter_forced=forced)
    with closing(LocalEngine(options)) as engine:
        return engine.load()


def test_another_quantisation_of_the_base_will_do_and_another_base_needs_force(
    tmp_path: Path,
) -> None:
    base = write_model(tmp_path / "base.gguf", openchat_vocabulary(), feed_forward=256)
    other = write_model(
        tmp_path / "other.gguf", openchat_vocabulary("user_defined"), feed_forward=256, seed=1
    )
    file = read_gguf(base)
    card = replace(expert_card(base), base=identity_of(file))
    adapter = write_random_adapter(tmp_path / "mine.gguf", base, card=card)
    for same in (base, quantised(base, "Q4_K"), quantised(base, "Q2_K")):
        loaded = loaded_with(adapter, same)
        assert loaded.adapter is not None
        assert (loaded.adapter.name, loaded.adapter.condition) == ("mine", "Expert")
        assert not any("--force" in note for note in loaded.notes)
    says = (
        r"mine was trained on starter, and other\.gguf has other weights in blk\.0\.attn_q.*--force"
    )
    with pytest.raises(AdapterError, match=says):
        loaded_with(adapter, other)
    forced = loaded_with(adapter, other, forced=True)
    assert forced.adapter is not None
    assert any("used anyway" in note for note in forced.notes)


def test_an_adapter_that_knows_one_file_only_goes_on_working(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base.gguf", openchat_vocabulary(), feed_forward=256)
    adapter = write_random_adapter(tmp_path / "mine.gguf", base)  # its card has no identity
    assert loaded_with(adapter, base).adapter is not None
    with pytest.raises(AdapterError, match=r"fingerprint .* is not that of Q4_K\.gguf.*--force"):
        loaded_with(adapter, quantised(base, "Q4_K"))
    assert loaded_with(adapter, quantised(base, "Q4_K"), forced=True).adapter is not None


def test_a_state_on_disk_belongs_to_its_adapter(
    starter_path: Path, first: Path, second: Path, tmp_path: Path
) -> None:
    states = tmp_path / "states"
    request = replace(asking(STORY, max_tokens=2), chat_key="chat-1")

    def restored(path: Path | None, scale: float = 1.0) -> int:
        """Tokens that a new engine with this adapter takes from the disk."""
        options = EngineOptions(
            starter_path,
            context=2048,
            threads=1,
            states_dir=states,
            adapter=path,
            adapter_scale=scale,
        )
        engine = LocalEngine(options)
        _, finished = run(engine, request)
        assert engine.pid is not None
        child = psutil.Process(engine.pid)
        engine.close()
        child.wait(timeout=30)
        return finished.usage.restored_tokens

    assert restored(first) == 0
    assert restored(first) > 100
    assert restored(second) == 0
    assert restored(None) == 0
    assert restored(first, scale=0.5) == 0
    assert restored(first) > 100
