"""What the engine chooses for a machine, and whether the prediction holds."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.placement import fit_to_machine
from openchat_local.models.engine.protocol import EngineOptions, KVType
from openchat_local.models.errors import ModelLoadError
from openchat_local.models.gguf import GGUFFile, read_gguf
from openchat_local.models.memory import GPUMemory, MachineMemory, predict
from support.engines import asking, run
from support.openchat_gguf import openchat_vocabulary, write_model

GIB = 1024**3
MIB = 1024**2


@pytest.fixture(scope="session")
def starter(starter_path: Path) -> GGUFFile:
    return read_gguf(starter_path)


def machine(available: int, gpu: GPUMemory | None = None) -> MachineMemory:
    return MachineMemory(16 * GIB, available, gpu)


def test_with_memory_to_spare_the_context_is_the_usual_one(starter: GGUFFile) -> None:
    fit = fit_to_machine(starter, EngineOptions(starter.path), machine(8 * GIB))
    assert (fit.context, fit.gpu_layers, fit.repack, fit.notes) == (8192, 0, True, ())


def test_with_less_memory_the_context_shrinks_and_says_so(starter: GGUFFile) -> None:
    room = predict(starter, 3000).total
    fit = fit_to_machine(starter, EngineOptions(starter.path), machine(room))
    assert fit.context == 2048
    assert fit.repack
    (note,) = fit.notes
    assert "2,048 tokens instead of 8,192" in note


def test_with_hardly_any_memory_weights_stay_in_the_file(starter: GGUFFile) -> None:
    fit = fit_to_machine(starter, EngineOptions(starter.path), machine(100 * MIB))
    assert fit.context == 512
    assert not fit.repack
    assert "smaller model" in fit.notes[-1]


def test_a_context_that_was_asked_for_is_kept_or_refused(starter: GGUFFile) -> None:
    def fit(context: int, available: int) -> int:
        options = EngineOptions(starter.path, context=context)
        return fit_to_machine(starter, options, machine(available)).context

    need = predict(starter, 8192)
    assert fit(8192, need.kv + need.buffers) == 8192
    with pytest.raises(ModelLoadError, match=r"8,192 tokens needs 0\.\d GiB.*--context 2048"):
        fit(8192, predict(starter, 2048).total)


def test_a_smaller_type_of_the_cache_leaves_room_for_more_context(starter: GGUFFile) -> None:
    def context(kv_type: KVType) -> int:
        options = EngineOptions(starter.path, kv_type=kv_type)
        room = predict(starter, 8192, kv_type="q8_0").total
        return fit_to_machine(starter, options, machine(room)).context

    assert context("q8_0") == 8192
    assert context("f16") < 8192


def test_a_type_that_the_heads_do_not_suit_is_refused_before_anything_loads(
    tmp_path: Path,
) -> None:
    model = write_model(tmp_path / "odd.gguf", openchat_vocabulary(), embedding=160)
    refused = pytest.raises(ModelLoadError, match=r"odd\.gguf are 40 wide: set kv\.type to f16")
    with closing(LocalEngine(EngineOptions(model, kv_type="q8_0"))) as engine, refused:
        engine.load()


def test_past_what_the_model_was_trained_on_there_is_a_note(starter: GGUFFile) -> None:
    options = EngineOptions(starter.path, context=10000)
    (note,) = fit_to_machine(starter, options, machine(8 * GIB)).notes
    assert "trained on 8,192" in note


def test_layers_go_to_the_gpu_unless_their_number_is_set(starter: GGUFFile) -> None:
    def layers(free: int, wish: int = -1) -> tuple[int, int]:
        options = EngineOptions(starter.path, gpu_layers=wish)
        card = GPUMemory("A card", 8 * GIB, free)
        fit = fit_to_machine(starter, options, machine(8 * GIB, card))
        return fit.gpu_layers, len(fit.notes)

    assert layers(7 * GIB) == (31, 0)
    some, notes = layers(150 * MIB)
    assert 0 < some < 31
    assert notes == 1
    assert layers(7 * GIB, wish=5) == (5, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere pages of the file stay counted")
@pytest.mark.parametrize(("context", "kv_type"), [(1024, "f16"), (8192, "f16"), (8192, "q8_0")])
def test_the_engine_takes_what_was_predicted(
    starter: GGUFFile, context: int, kv_type: KVType
) -> None:
    options = EngineOptions(starter.path, context=context, kv_type=kv_type)
    with closing(LocalEngine(options)) as engine:
        engine.load()
        run(engine, asking("The quick brown fox jumps over the lazy dog. " * 20, max_tokens=8))
        measured = psutil.Process(engine.pid).memory_info().rss
    need = predict(starter, context, kv_type=kv_type)
    assert need.total == pytest.approx(measured, rel=0.12)
