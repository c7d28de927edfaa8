"""What a file is in, and about how large it gets: held against llama.cpp's own quantiser."""

from __future__ import annotations

import os
from pathlib import Path

import llama_cpp.llama_cpp as llama
import numpy as np
import pytest

from openchat_local.models.gguf import read_gguf
from openchat_local.models.gguf.quantisation import (
    ESTIMATED,
    FILE_TYPES,
    WeightShape,
    estimated_bytes,
    quantisation_in,
    quantisation_of,
)
from openchat_local.models.hub.client import HubFile
from openchat_local.models.library.suitability import choose_quantisation, suitability_of
from openchat_local.models.memory import MachineMemory, ModelShape
from openchat_local.models.template.vocabulary import quiet_llama_log
from support.openchat_gguf import byte_vocabulary, openchat_vocabulary, write_model

GIB = 1024**3


def test_the_numbers_are_llama_cpps() -> None:
    prefix = "LLAMA_FTYPE_MOSTLY_"
    theirs = {getattr(llama, name): name.removeprefix(prefix) for name in dir(llama)
              if name.startswith(prefix)}  # fmt: skip
    assert theirs | {0: "F32"} == FILE_TYPES


@pytest.mark.parametrize(
    ("name", "quantisation"),
    [
        ("openchat-3.5-0106.Q4_K_M.gguf", "Q4_K_M"),
        ("model-IQ3_XXS.gguf", "IQ3_XXS"),
        ("q8_0/model-f16-q8_0.gguf", "Q8_0"),
        ("model.fp16.gguf", "F16"),
        ("model-Q4_0_4_8.gguf", "Q4_0_4_8"),
        ("model-UD-IQ4_NL.gguf", "IQ4_NL"),
        ("openchat_v3.2_super.gguf", None),
        ("EQ4_0X.gguf", None),
    ],
)
def test_what_a_name_tells(name: str, quantisation: str | None) -> None:
    assert quantisation_in(name) == quantisation


def test_what_a_file_tells(starter_path: Path) -> None:
    assert quantisation_of(read_gguf(starter_path)) == "Q4_1"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve blocks, so that the mixtures show, with grouped-query attention and an output."""
    vocabulary = openchat_vocabulary()
    output = np.zeros((len(vocabulary.tokens), 256), dtype=np.float16)
    return write_model(
        tmp_path_factory.mktemp("base") / "base.gguf", vocabulary, blocks=12, embedding=256,
        heads=8, kv_heads=2, feed_forward=1024, extra={"output.weight": output},
    )  # fmt: skip


@pytest.mark.parametrize("quantisation", ESTIMATED)
def test_the_estimate_is_near_what_llama_cpp_writes(
    quantisation: str, base: Path, tmp_path: Path
) -> None:
    quiet_llama_log()
    parameters = llama.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama, f"LLAMA_FTYPE_MOSTLY_{quantisation}")
    target = tmp_path / "out.gguf"
    assert not llama.llama_model_quantize(os.fsencode(base), os.fsencode(target), parameters)
    file = read_gguf(target)
    assert quantisation_of(file) == quantisation
    written = sum(tensor.byte_size for tensor in file.tensors)
    shape = WeightShape(12, 256, 8, 2, 32, 32002, 1024)
    assert estimated_bytes(shape, quantisation) == pytest.approx(written, rel=0.04)


@pytest.mark.parametrize("quantisation", ["Q4_K_M", "Q3_K_M", "Q6_K"])
def test_rows_that_are_no_whole_blocks_take_more(quantisation: str, tmp_path: Path) -> None:
    quiet_llama_log()
    sizes = {"blocks": 4, "embedding": 288, "heads": 9, "kv_heads": 3, "feed_forward": 768}
    base = write_model(tmp_path / "base.gguf", byte_vocabulary(), **sizes)  # type: ignore[arg-type]
    parameters = llama.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama, f"LLAMA_FTYPE_MOSTLY_{quantisation}")
    target = tmp_path / "out.gguf"
    assert not llama.llama_model_quantize(os.fsencode(base), os.fsencode(target), parameters)
    written = sum(tensor.byte_size for tensor in read_gguf(target).tensors)
    shape = WeightShape(4, 288, 9, 3, 32, 261, 768, tied=True)
    assert estimated_bytes(shape, quantisation) == pytest.approx(written, rel=0.06)


SHAPE = ModelShape(32, 4096, 32, 8, 128, 32002)
FILES = [
    HubFile("m.Q2_K.gguf", 2_720_000_000, "a"),
    HubFile("m.Q3_K_M.gguf", 3_520_000_000, "a"),
    HubFile("m.Q4_K_M.gguf", 4_370_000_000, "a"),
    HubFile("m.Q8_0.gguf", 7_700_000_000, "a"),
    HubFile("m.gguf", 14_000_000_000, "a"),
]


@pytest.mark.parametrize(
    ("free", "quantisation", "why"),
    [
        (64, "Q4_K_M", "most of the quality"),
        (5.2, "Q3_K_M", "the best that fits this machine"),
        (1, "Q2_K", "still does not fit"),
    ],
)
def test_the_quantisation_follows_the_memory(free: float, quantisation: str, why: str) -> None:
    machine = MachineMemory(total=int(1.1 * free * GIB), available=int(free * GIB))
    file, reason = choose_quantisation(FILES, machine, SHAPE, 8192)
    assert file.quantisation == quantisation
    assert why in reason
    assert reason.startswith(quantisation)


def test_of_one_file_there_is_no_choice() -> None:
    machine = MachineMemory(total=GIB, available=GIB)
    assert choose_quantisation(FILES[4:], machine)[0] is FILES[4]


def test_the_fit_counts_the_context_that_a_chat_gets() -> None:
    machine = MachineMemory(total=8 * GIB, available=8 * GIB)
    short = suitability_of(SHAPE, 4 * GIB, 2048, machine)
    long = suitability_of(SHAPE, 4 * GIB, 8192, machine)
    longest = suitability_of(SHAPE, 4 * GIB, 131072, machine)
    assert short.need < long.need == longest.need
    assert suitability_of(None, 16 * GIB, 8192, machine).verdict == "does not fit"
