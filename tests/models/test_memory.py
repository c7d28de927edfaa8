"""What a model needs, what the machine has, and what is made of the two."""

from __future__ import annotations

from pathlib import Path

import pytest

from openchat_local.models.gguf import GGUFFile, read_gguf
from openchat_local.models.memory import (
    GPUMemory,
    MachineMemory,
    gpu_layers_that_fit,
    machine_memory,
    predict,
    predict_from_shape,
    shape_of,
    verdict,
)

GIB = 1024**3


@pytest.fixture(scope="session")
def starter(starter_path: Path) -> GGUFFile:
    return read_gguf(starter_path)


def test_the_shape_is_what_the_file_says(starter: GGUFFile) -> None:
    shape = shape_of(starter)
    assert (shape.blocks, shape.width, shape.feed_forward) == (30, 576, 1536)
    assert (shape.heads, shape.kv_heads, shape.head_width) == (9, 3, 64)
    assert shape.vocabulary == 49152


def test_a_prediction_from_the_shape_is_that_from_the_file(starter: GGUFFile) -> None:
    from_file = predict(starter, 4096)
    from_shape = predict_from_shape(shape_of(starter), starter.file_size, 4096)
    assert (from_shape.kv, from_shape.buffers) == (from_file.kv, from_file.buffers)
    assert from_shape.weights == pytest.approx(from_file.weights, rel=0.05)  # the header
    assert from_file.total == from_file.weights + from_file.kv + from_file.buffers


def test_the_cache_grows_with_the_context_and_shrinks_with_its_type(starter: GGUFFile) -> None:
    assert predict(starter, 8192).kv == 8192 * 30 * 3 * 128 * 2
    assert predict(starter, 8000).kv == predict(starter, 8192).kv  # in steps of 256
    assert predict(starter, 8192, kv_type="q8_0").kv == 8192 * 30 * 3 * 128 * 34 // 32
    with pytest.raises(ValueError, match="q9"):
        predict(starter, 8192, kv_type="q9")


def test_a_model_fits_is_tight_or_does_not_fit() -> None:
    machine = MachineMemory(total=16 * GIB, available=8 * GIB)
    assert verdict(5 * GIB, machine) == "fits"
    assert verdict(8 * GIB, machine) == "tight"
    assert verdict(13 * GIB, machine) == "tight"
    assert verdict(15 * GIB, machine) == "does not fit"


def test_the_memory_of_a_graphics_card_counts_and_unified_memory_does_not_count_twice() -> None:
    card = GPUMemory("card", 24 * GIB, 23 * GIB)
    assert verdict(25 * GIB, MachineMemory(16 * GIB, 8 * GIB, card)) == "fits"
    metal = GPUMemory("Metal", 10 * GIB, 10 * GIB, unified=True)
    assert verdict(25 * GIB, MachineMemory(16 * GIB, 8 * GIB, metal)) == "does not fit"


def test_as_many_layers_go_to_the_gpu_as_it_has_room_for(starter: GGUFFile) -> None:
    def layers(mib: float) -> int:
        return gpu_layers_that_fit(starter, 8192, GPUMemory("card", GIB, int(mib * 1024**2)))

    assert gpu_layers_that_fit(starter, 8192, None) == 0
    assert layers(1000) == 31  # 30 blocks and the output
    assert layers(40) == 0
    some = [layers(mib) for mib in range(60, 360, 20)]
    assert some == sorted(some)
    assert 0 < some[5] < 31


def test_this_machine_has_memory_and_less_of_it_is_free() -> None:
    machine = machine_memory()
    assert 0 < machine.available < machine.total
