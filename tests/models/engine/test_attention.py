"""Which attention is used is found out once, and kept."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from openchat_local.models.engine.decoding import attention
from openchat_local.models.engine.decoding.attention import flash_is_faster
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions, FlashAttention
from openchat_local.models.gguf import GGUFFile, read_gguf
from openchat_local.models.template.vocabulary import quiet_llama_log
from support.adapters import write_f32
from support.engines import asking, run
from support.openchat_gguf import openchat_vocabulary, write_model


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> GGUFFile:
    folder = tmp_path_factory.mktemp("attention")
    half = write_model(folder / "f16.gguf", openchat_vocabulary(), embedding=64, heads=2)
    return read_gguf(write_f32(half, folder / "tiny.gguf"))


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is that the tests run on."""
    quiet_llama_log()
    monkeypatch.setattr(attention, "_SECONDS", 200.0)
    monkeypatch.setattr(attention, "_ROUNDS", attention._FEWEST)


def test_what_was_found_out_is_what_is_done_from_then_on(file: GGUFFile, tmp_path: Path) -> None:
    findings = tmp_path / "machine.json"
    found = flash_is_faster(file, findings)
    ((key, ratio),) = json.loads(findings.read_text()).items()
    assert found == (ratio <= attention._AS_FAST)
    assert " | heads 2 " in key
    for kept, answer in ((0.5, True), (2.0, False)):
        findings.write_text(json.dumps({"of something else": 1, key: kept}))
        assert flash_is_faster(file, findings) is answer
        assert json.loads(findings.read_text()) == {"of something else": 1, key: kept}


def test_other_heads_are_another_question(tmp_path: Path, file: GGUFFile) -> None:
    findings = tmp_path / "machine.json"
    flash_is_faster(file, findings)
    other = write_model(tmp_path / "other.gguf", openchat_vocabulary(), embedding=64, heads=4)
    flash_is_faster(read_gguf(other), findings)
    assert len(json.loads(findings.read_text())) == 2


@pytest.mark.parametrize("damage", ["", "{", "[1]", '"text"'])
def test_a_damaged_file_is_written_anew(file: GGUFFile, tmp_path: Path, damage: str) -> None:
    findings = tmp_path / "machine.json"
    findings.write_text(damage)
    flash_is_faster(file, findings)
    assert len(json.loads(findings.read_text())) == 1


def test_a_machine_without_time_is_asked_again(
    file: GGUFFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_SECONDS", 0.0)
    assert flash_is_faster(file, tmp_path / "machine.json") is False
    assert not (tmp_path / "machine.json").exists()


def test_what_cannot_be_kept_is_not_done(file: GGUFFile, tmp_path: Path) -> None:
    """Or the next start would do otherwise, and a seed would not repeat."""
    assert flash_is_faster(file, None) is False
    assert flash_is_faster(file, tmp_path / "no folder" / "machine.json") is False


def test_both_ways_say_the_same(file: GGUFFile) -> None:
    texts = []
    ways: tuple[FlashAttention, ...] = ("on", "off")
    for way in ways:
        options = EngineOptions(file.path, context=512, threads=1, flash_attention=way)
        with closing(LocalEngine(options)) as engine:
            texts.append(run(engine, asking("Say something long. " * 20, max_tokens=20))[0])
    assert texts[0] == texts[1]
    assert texts[0]
