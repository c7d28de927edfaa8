"""A merged model holds base plus adapter, in every type, and everything else as it was."""

from __future__ import annotations

import shutil
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np
import pytest

from openchat_local.app.cli import adapters as command
from openchat_local.finetune.adapter import MERGE_TYPES, merge, read_gguf_adapter
from openchat_local.finetune.adapter import tensors as reading
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions
from openchat_local.models.errors import AdapterError, ModelFileError
from openchat_local.models.gguf import read_gguf
from support.adapters import deltas, write_f32, write_random_adapter
from support.openchat_gguf import openchat_vocabulary, write_model
from support.quantised import quantised

CHANGED_KEYS = {"general.name", "general.file_type", "general.quantization_version"}


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, tiny_f16: Path) -> Path:
    return write_random_adapter(tmp_path_factory.mktemp("adapter") / "mine.gguf", tiny_f16)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, tiny_f16: Path, adapter: Path) -> Path:
    """Base plus adapter as float32, by another way."""
    weights, config, _ = read_gguf_adapter(adapter)
    target = tmp_path_factory.mktemp("expected") / "merged.gguf"
    return write_f32(tiny_f16, target, deltas(weights, config))


def values(path: Path) -> dict[str, np.ndarray]:
    return {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        for tensor in gguf.GGUFReader(path).tensors
    }


@pytest.mark.parametrize(("type_name", "relative"), [("f32", 1e-6), ("f16", 5e-4), ("q8_0", 1e-2)])
def test_every_tensor_is_base_plus_adapter(
    tmp_path: Path,
    tiny_f16: Path,
    adapter: Path,
    expected: Path,
    type_name: str,
    relative: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "PIECE_BYTES", 100_000)  # so that every matrix takes several
    fractions: list[float] = []
    out = tmp_path / "out.gguf"
    merge(adapter, tiny_f16, out, type_name, fractions.append)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    merged, wanted = values(out), values(expected)
    assert merged.keys() == wanted.keys()
    for name, tensor in wanted.items():
        error = np.linalg.norm(merged[name] - tensor) / np.linalg.norm(tensor)
        assert error < relative, name
    kinds = {tensor.type for tensor in read_gguf(out).tensors if len(tensor.shape) > 1}
    assert kinds == {type_name.upper()}
    assert [file.name for file in tmp_path.iterdir()] == ["out.gguf"]


def test_the_metadata_is_the_bases_and_the_card_comes_along(
    tmp_path: Path, tiny_f16: Path, adapter: Path
) -> None:
    out = tmp_path / "out.gguf"
    merge(adapter, tiny_f16, out)
    base, merged = read_gguf(tiny_f16).metadata, read_gguf(out).metadata
    for key in base.keys() - CHANGED_KEYS:
        if isinstance(base[key], Sequence):
            assert list(merged[key]) == list(base[key]), key
        else:
            assert merged[key] == base[key], key
    assert merged["general.name"] == "tiny + mine"
    engine = LocalEngine(EngineOptions(out, vocab_only=True))
    try:
        assert engine.load().default_condition == "Expert"
    finally:
        engine.close()


def test_a_quantised_base_and_a_type_of_llama_cpps(tmp_path: Path, tiny_f16: Path) -> None:
    source = Path(shutil.copy(tiny_f16, tmp_path / "base.gguf"))
    base = quantised(source, "Q4_K")
    adapter = write_random_adapter(tmp_path / "a.gguf", base, size=0.15)
    before = {file.name for file in tmp_path.iterdir()}
    out = tmp_path / "out.gguf"
    merge(adapter, base, out, "q4_k_m")
    assert {file.name for file in tmp_path.iterdir()} == before | {"out.gguf"}
    weights, config, _ = read_gguf_adapter(adapter)
    was, now = values(base), values(out)
    name = "blk.0.ffn_up.weight"
    wanted = was[name] + deltas(weights, config)[name]
    assert np.linalg.norm(now[name] - wanted) / np.linalg.norm(wanted) < 0.1
    assert np.linalg.norm(now[name] - was[name]) / np.linalg.norm(was[name]) > 0.2


def test_a_disk_too_small_is_told_before_anything_is_written(
    tmp_path: Path, tiny_f16: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 2**20))
    for type_name in ("f16", "q4_k_m"):
        with pytest.raises(AdapterError, match=r"Merging needs .* and 0\.0 GiB is free"):
            merge(adapter, tiny_f16, tmp_path / "out.gguf", type_name)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_merged_is_told(tmp_path: Path, tiny_f16: Path, adapter: Path) -> None:
    other = write_model(tmp_path / "other.gguf", openchat_vocabulary(), blocks=1)
    (tmp_path / "there.gguf").touch()
    for base, out, kind, says in (
        (other, tmp_path / "out.gguf", AdapterError, "fingerprint"),
        (tiny_f16, tmp_path / "there.gguf", AdapterError, "is there already"),
        (tiny_f16, tmp_path / "no" / "out.gguf", AdapterError, "There is no folder"),
        (adapter, tmp_path / "out.gguf", AdapterError, "fingerprint"),
        (tmp_path / "gone.gguf", tmp_path / "out.gguf", ModelFileError, "There is no file"),
    ):
        with pytest.raises(kind, match=says):
            merge(adapter, base, out)
    assert not (tmp_path / "out.gguf").exists()


def test_values_beyond_f16_are_refused_and_leave_nothing(tmp_path: Path, tiny_f16: Path) -> None:
    adapter = write_random_adapter(tmp_path / "a.gguf", tiny_f16, size=1e4)
    with pytest.raises(AdapterError, match="beyond the range of F16"):
        merge(adapter, tiny_f16, tmp_path / "out.gguf")
    assert [file.name for file in tmp_path.iterdir()] == ["a.gguf"]


def test_the_command_offers_every_type() -> None:
    assert command.MERGE_TYPES == MERGE_TYPES
