"""Installed models: under names, whole or not there, and never removed from under anybody."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from openchat_local.models.errors import ModelFileError
from openchat_local.models.library import ModelLibrary, model_name, resolve_model
from openchat_local.models.library.card import read_card
from openchat_local.models.library.store import name_from
from support.openchat_gguf import openchat_vocabulary, write_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "my-model.f16.gguf"
    return write_model(path, openchat_vocabulary(), embedding=32, heads=2, kv_heads=1, blocks=1)


@pytest.fixture
def library(tmp_path: Path) -> ModelLibrary:
    return ModelLibrary(tmp_path / "models")


def test_what_is_added_is_found_verified_and_removed(library: ModelLibrary, tiny: Path) -> None:
    assert library.models() == []
    seen: list[int] = []
    added = library.add(tiny, on_progress=seen.append)
    assert added.card.reference == "my-model:F16"
    assert added.path.read_bytes() == tiny.read_bytes()
    assert added.card.sha256 == hashlib.sha256(tiny.read_bytes()).hexdigest()
    assert seen[-1] == tiny.stat().st_size
    assert library.models() == [added]
    assert library.find("my-model") == library.find("my-model:f16") == added
    assert library.find("my-model:Q8_0") is library.find("other") is library.find("../x") is None
    assert resolve_model("my-model", library.folder) == added.path
    assert model_name(added.path) == "my-model:F16"
    assert library.verify(added).card.verified >= added.card.verified
    assert library.remove(added) == tiny.stat().st_size
    assert list(library.folder.iterdir()) == []
    assert tiny.is_file()


def test_a_link_takes_no_room_and_what_it_links_to_stays(
    library: ModelLibrary, tiny: Path, tmp_path: Path
) -> None:
    theirs = tmp_path / "blob"  # Ollama's files have no ending
    theirs.write_bytes(tiny.read_bytes())
    theirs.chmod(0o400)
    added = library.add(theirs, "theirs", link=True)
    assert added.path.is_symlink()
    assert added.path.name == "theirs.F16.gguf"
    assert library.remove(added) == 0
    assert theirs.is_file()
    added = library.add(theirs, "theirs", link=True)
    theirs.unlink()
    with pytest.raises(ModelFileError, match=r"linked to .*blob, which is gone: remove it"):
        resolve_model("theirs", library.folder)


def test_a_name_means_the_quantisation_that_was_there_first(
    library: ModelLibrary, tiny: Path, tmp_path: Path
) -> None:
    first = library.add(tiny, "mine")
    other = tmp_path / "x.Q8_0.gguf"
    other.write_bytes(tiny.read_bytes())
    second = library.add(other, "mine")
    assert library.find("mine") == first
    assert library.find("mine:Q8_0") == second
    library.remove(first)
    assert library.find("mine") == second


def test_a_taken_name_is_kept(library: ModelLibrary, tiny: Path) -> None:
    added = library.add(tiny, "mine")
    with pytest.raises(ModelFileError, match=r"mine:F16 already: .*models remove mine:F16"):
        library.add(tiny, "mine")
    assert library.models() == [added]


@pytest.mark.parametrize("name", [".", "../x", "a/b", "a:b", "con", "a.gguf", "starter", "ä"])
def test_names_that_no_folder_should_have_are_refused(
    name: str, library: ModelLibrary, tiny: Path
) -> None:
    with pytest.raises(ModelFileError, match="cannot be named"):
        library.add(tiny, name)
    assert not library.folder.exists()


def test_what_is_no_model_is_not_added(library: ModelLibrary, tiny: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny.read_bytes()[:-10])
    with pytest.raises(ModelFileError, match="10 bytes short"):
        library.add(cut)
    with pytest.raises(ModelFileError, match="no file"):
        library.add(tmp_path / "nowhere.gguf")
    headless = tmp_path / "headless.gguf"
    headless.write_bytes(tiny.read_bytes().replace(b"llama.block_count", b"llama.clock_bount"))
    with pytest.raises(ModelFileError, match=r"no usable 'llama\.block_count'"):
        library.add(headless)
    assert [path for path in library.folder.rglob("*") if path.is_file()] == []


def test_a_damaged_byte_is_noticed(library: ModelLibrary, tiny: Path) -> None:
    added = library.add(tiny)
    content = bytearray(tiny.read_bytes())
    content[-1] ^= 1
    added.path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"my-model:F16 is damaged: .*models remove"):
        library.verify(added)


@pytest.mark.parametrize(
    "changes",
    [{"file": "../../x.gguf"}, {"name": "other"}, {"bytes": "many"}, {"shape": None}, {"x": 1}],
)
def test_a_card_that_lies_is_told_and_left_out(
    changes: dict[str, object], library: ModelLibrary, tiny: Path
) -> None:
    added = library.add(tiny)
    path = added.folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    models, faults = library.scan()
    assert models == []
    assert "delete" in str(faults[0])
    assert library.find("my-model") is None


def test_a_copy_that_was_killed_leaves_nothing_for_long(library: ModelLibrary, tiny: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    left = library.folder / f".mine@F16.{process.pid}.part"
    left.mkdir(parents=True)
    (left / "half.gguf").write_bytes(b"GGUF")
    ours = library.folder / f".mine@F16.{os.getpid()}.part"
    ours.mkdir()
    library.add(tiny)
    assert not left.exists()
    assert ours.exists()  # its process lives: it may be at work


USER = """
import sys
from pathlib import Path
from openchat_local.models.library import hold
hold(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_model_in_use_is_not_removed_however_many_use_it(
    library: ModelLibrary, tiny: Path
) -> None:
    added = library.add(tiny)
    users = [
        subprocess.Popen(
            [sys.executable, "-c", USER, str(added.path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    for user in users:
        assert user.stdout is not None
        assert user.stdout.readline() == b"held\n"
    for user in users:
        with pytest.raises(ModelFileError, match="is in use by another openchat-local"):
            library.remove(added)
        user.kill()
        user.communicate()
    library.remove(added)
    assert library.models() == []


def test_the_card_knows_what_the_file_says(library: ModelLibrary, starter_path: Path) -> None:
    card = read_card(library.add(starter_path, "small", link=True).folder)
    assert (card.quantisation, card.context, card.architecture) == ("Q4_1", 8192, "llama")
    assert (card.shape.blocks, card.shape.width, card.shape.kv_heads) == (30, 576, 3)
    assert card.shape.vocabulary == 49152


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("openchat-3.5-0106.Q4_K_M.gguf", "openchat-3.5-0106"),
        ("openchat-3.6-8b-20240522-IQ3_XXS.gguf", "openchat-3.6-8b-20240522"),
        ("my model (new).gguf", "my-model-new"),
        ("ggml-model-f16.gguf", "ggml-model"),
        ("Q4_K_M.gguf", "model"),
    ],
)
def test_a_name_from_a_files_name(file: str, name: str) -> None:
    assert name_from(file) == name


def test_names_that_mean_nothing_tell_what_there_is(library: ModelLibrary, tiny: Path) -> None:
    library.add(tiny, "mine")
    with pytest.raises(ModelFileError, match=r"named 'yours': use one of mine:F16, starter, open"):
        resolve_model("yours", library.folder)
    with pytest.raises(ModelFileError, match=r"models pull openchat-3.5:Q4_K_M"):
        resolve_model("openchat-3.5:Q4_K_M", library.folder)
    with pytest.raises(ModelFileError, match="there are mine:F16"):
        library.existing("yours")


@pytest.mark.parametrize("name", ["a" * 5000, "a/" * 2500, "~nobody-here/x", "x\x00"])
def test_what_can_be_no_path_is_no_model(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelFileError, match="no model"):
        resolve_model(name, tmp_path)
