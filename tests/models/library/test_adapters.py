"""Adapters under names: whole or not there, and never outside their folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.models.errors import AdapterError, ModelFileError
from openchat_local.models.library.adapters import AdapterLibrary, check_name, name_for
from support.adapters import write_random_adapter
from support.openchat_gguf import openchat_vocabulary, write_model


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    base = write_model(folder / "tiny.gguf", openchat_vocabulary())
    return write_random_adapter(folder / "run" / "adapter.gguf", base)


@pytest.fixture
def library(tmp_path: Path) -> AdapterLibrary:
    return AdapterLibrary(tmp_path / "adapters")


def test_what_is_added_is_listed_resolved_and_removed(
    library: AdapterLibrary, adapter: Path, tmp_path: Path
) -> None:
    assert library.names() == []
    peft = tmp_path / "peft"
    peft.mkdir()
    (peft / "adapter_config.json").write_text("{}")
    added = library.add("mine", adapter, peft=peft, facts={"loss": 1.5})
    library.add("Another-1.0_b", adapter)
    assert library.names() == ["Another-1.0_b", "mine"]
    info = library.info("mine")
    assert info == added
    assert info.path.read_bytes() == adapter.read_bytes()
    assert info.peft is not None
    assert (info.peft / "adapter_config.json").read_text() == "{}"
    assert info.facts == {"loss": 1.5}
    assert json.loads((info.folder / "card.json").read_text()) == {"loss": 1.5}
    assert library.info("Another-1.0_b").peft is None
    assert library.resolve("mine") == info.path
    library.remove("mine")
    assert library.names() == ["Another-1.0_b"]
    assert [path.name for path in library.folder.iterdir()] == ["Another-1.0_b"]


def test_a_name_that_is_taken_is_kept_unless_it_is_to_be_replaced(
    library: AdapterLibrary, adapter: Path
) -> None:
    library.add("mine", adapter, facts={"run": 1})
    with pytest.raises(AdapterError, match=r"already.*adapters remove mine"):
        library.add("mine", adapter, facts={"run": 2})
    assert library.info("mine").facts == {"run": 1}
    library.add("mine", adapter, facts={"run": 2}, replace=True)
    assert library.info("mine").facts == {"run": 2}
    assert [path.name for path in library.folder.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "a\\b", "none", "None", "con", "NUL.txt", "a.", "a.gguf",
     "-a", "a b", "ä", "a\n", "x" * 65],
)  # fmt: skip
def test_names_that_no_folder_should_have_are_refused(
    library: AdapterLibrary, adapter: Path, name: str
) -> None:
    with pytest.raises(AdapterError, match="cannot be named"):
        library.add(name, adapter)
    with pytest.raises(AdapterError, match="no adapter named"):
        library.remove(name)
    assert not library.folder.exists()


def test_a_file_that_is_no_adapter_is_not_installed(
    library: AdapterLibrary, adapter: Path, starter_path: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(adapter.read_bytes()[:-100])
    with pytest.raises(ModelFileError, match="short"):
        library.add("mine", cut)
    with pytest.raises(AdapterError, match="not an adapter"):
        library.add("mine", starter_path)
    assert library.names() == []


def test_a_failure_while_copying_leaves_nothing(
    library: AdapterLibrary, adapter: Path, tmp_path: Path
) -> None:
    library.add("mine", adapter, facts={"run": 1})
    with pytest.raises(AdapterError, match="cannot be kept"):
        library.add("mine", adapter, peft=tmp_path / "gone", replace=True)
    assert library.info("mine").facts == {"run": 1}
    assert [path.name for path in library.folder.iterdir()] == ["mine"]


def test_paths_and_the_folders_of_runs_are_resolved(
    library: AdapterLibrary, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert library.resolve(str(adapter)) == adapter
    assert library.resolve(str(adapter.parent)) == adapter
    monkeypatch.chdir(adapter.parent)
    assert library.resolve("adapter.gguf") == adapter
    assert library.resolve("not-there.gguf") == adapter.parent / "not-there.gguf"
    with pytest.raises(AdapterError, match=r"none is installed yet.*'none'"):
        library.resolve("mine")
    library.add("mine", adapter)
    with pytest.raises(AdapterError, match="there are mine"):
        library.resolve("yours")


@pytest.mark.parametrize("name", ["a" * 5000, "a/" * 2500, "~nobody-here/x", "x\x00"])
def test_what_can_be_no_path_is_no_adapter(tmp_path: Path, name: str) -> None:
    with pytest.raises(AdapterError, match="no adapter"):
        AdapterLibrary(tmp_path).resolve(name)


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("mine", "mine"),
        ("my data", "my-data"),
        ("_data", "data"),
        ("none", "adapter-none"),
        ("con.txt", "adapter-con.txt"),
        ("base.gguf", "base"),
        ("数据", "adapter"),
        ("x" * 99, "x" * 64),
    ],
)
def test_a_file_gives_an_adapter_a_name(stem: str, name: str) -> None:
    assert name_for(stem) == name


@given(st.text(st.characters(codec="utf-8")) | st.text("._-nul.gf", max_size=9))
def test_whatever_a_file_is_called_its_adapter_may_have_the_name(stem: str) -> None:
    check_name(name_for(stem))
