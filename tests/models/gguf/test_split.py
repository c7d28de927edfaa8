"""A model in several files is one model: read, loaded, installed, checked and merged."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from openchat_local.finetune.adapter import merge
from openchat_local.finetune.backends.model_file import TensorReader, dequantised
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions
from openchat_local.models.errors import ModelFileError
from openchat_local.models.gguf import read_gguf
from openchat_local.models.gguf.split import part_names, without_part
from openchat_local.models.library import ModelLibrary, model_name
from openchat_local.models.library.identity import difference, identity_of
from support.adapters import write_random_adapter
from support.engines import asking, run
from support.openchat_gguf import openchat_vocabulary, write_model

SMALL = {"blocks": 2, "embedding": 64, "heads": 2, "kv_heads": 1, "feed_forward": 96}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "tiny-openchat-3.5.Q8_0.gguf"
    return write_model(path, openchat_vocabulary(), **SMALL)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def cut(whole: Path) -> Path:
    """The first of three parts of the same model."""
    path = whole.parent / "cut" / whole.name
    path.parent.mkdir()
    return write_model(path, openchat_vocabulary(), tensors_in_a_part=8, **SMALL)  # type: ignore[arg-type]


@pytest.fixture
def parts(cut: Path, tmp_path: Path) -> list[Path]:
    """All three, to be spoilt."""
    shutil.copytree(cut.parent, tmp_path / "parts")
    return sorted((tmp_path / "parts").iterdir())


def test_names_of_parts() -> None:
    assert part_names("m.gguf") == part_names("m-00004-of-00003.gguf") == []
    assert part_names("m-00002-of-00002.GGUF") == ["m-00001-of-00002.GGUF", "m-00002-of-00002.GGUF"]
    assert without_part("m-00002-of-00002.gguf") == without_part("m.gguf") == "m.gguf"


def test_any_part_is_the_whole_model(whole: Path, parts: list[Path]) -> None:
    one, model = read_gguf(whole), read_gguf(parts[1])
    assert (model.path, model.parts) == (parts[0], tuple(parts))
    assert model.file_size == sum(part.stat().st_size for part in parts)
    assert {t.name: t.shape for t in model.tensors} == {t.name: t.shape for t in one.tensors}
    assert difference(identity_of(one), model) is None
    readers = TensorReader(one), TensorReader(model)
    for tensor in one.tensors:
        shape = tensor.shape[::-1]
        first, second = (reader.values(tensor.name, shape) for reader in readers)
        np.testing.assert_array_equal(first, second)
    assert model_name(parts[2]) == "tiny-openchat-3.5.Q8_0"


def test_a_fingerprint_is_of_all_parts(parts: list[Path]) -> None:
    before = read_gguf(parts[0]).fingerprint
    data = bytearray(parts[2].read_bytes())
    data[-1] ^= 1
    parts[2].write_bytes(data)
    assert read_gguf(parts[1]).fingerprint != before


def test_it_answers_as_the_whole_file_does(whole: Path, cut: Path) -> None:
    replies = []
    for path in (whole, cut.parent / sorted(p.name for p in cut.parent.iterdir())[1]):
        options = EngineOptions(path, context=512, threads=1)
        with closing(LocalEngine(options)) as engine:
            replies.append(run(engine, asking("Hello", max_tokens=6))[0])
    assert replies[0] == replies[1]


def test_what_is_not_all_there_or_not_all_one_model_is_one_sentence(
    parts: list[Path], tmp_path: Path
) -> None:
    parts[1].rename(tmp_path / "away.gguf")
    with pytest.raises(ModelFileError, match=r"-00002-of-00003\.gguf is not beside it"):
        read_gguf(parts[0])
    shutil.copyfile(parts[2], parts[1])
    with pytest.raises(ModelFileError, match="part of another model"):
        read_gguf(parts[0])
    other = tmp_path / "other" / "other.gguf"
    other.parent.mkdir()
    write_model(other, openchat_vocabulary(), tensors_in_a_part=8, **SMALL | {"embedding": 32})  # type: ignore[arg-type]
    shutil.copyfile(other.with_name("other-00002-of-00003.gguf"), parts[1])
    with pytest.raises(ModelFileError, match="part of another model"):
        read_gguf(parts[2])
    parts[1].write_bytes(b"GGUF")
    with pytest.raises(ModelFileError, match="fetch it again"):
        read_gguf(parts[0])


def test_it_is_installed_verified_and_removed_as_one(cut: Path, tmp_path: Path) -> None:
    library = ModelLibrary(tmp_path / "models")
    seen: list[int] = []
    model = library.add(cut, on_progress=seen.append)
    total = sum(part.stat().st_size for part in cut.parent.iterdir())
    assert (model.card.reference, model.card.bytes) == ("tiny-openchat-3.5:Q8_0", total)
    assert seen == sorted(seen)
    assert seen[-1] == total
    assert library.find("tiny-openchat-3.5") == model
    assert model_name(model.usable_path()) == model.card.reference
    assert read_gguf(model.usable_path()).file_size == total
    library.verify(model)
    last = model.folder / model.card.parts[-1].file
    data = bytearray(last.read_bytes())
    data[-1] ^= 1
    last.write_bytes(data)
    with pytest.raises(ModelFileError, match=r"is damaged: the SHA-256 of .*-00003-of-00003"):
        library.verify(model)
    last.unlink()
    with pytest.raises(ModelFileError, match="without a file"):
        model.usable_path()
    assert library.remove(model) == total
    assert not model.folder.exists()

    linked = library.add(cut, link=True)
    assert all((linked.folder / part.file).is_symlink() for part in linked.card.parts)
    library.verify(linked)
    assert library.remove(linked) == 0
    assert len(list(cut.parent.iterdir())) == 3


def test_a_type_that_cannot_be_trained_on_is_one_sentence() -> None:
    with pytest.raises(ModelFileError, match="quantised as Q8_1, which cannot be fine-tuned"):
        dequantised(np.zeros((1, 40), np.uint8), "Q8_1")


def test_an_adapter_is_merged_into_one_file(cut: Path, tmp_path: Path) -> None:
    adapter = write_random_adapter(tmp_path / "a.gguf", cut)
    out = tmp_path / "merged.gguf"
    merge(adapter, cut, out, "f16")
    merged = read_gguf(out)
    assert merged.parts == ()
    assert {t.name for t in merged.tensors} == {t.name for t in read_gguf(cut).tensors}
