"""Other programs' models, in folders made as those programs make them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openchat_local.models.library.found import find_elsewhere

GGUF = b"GGUF\x03\x00\x00\x00 and the rest"


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with nothing in it."""
    for variable in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME",
                     "OLLAMA_MODELS"):  # fmt: skip
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return tmp_path


def put(path: Path, content: bytes = GGUF) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_hugging_faces_cache(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = user / ".cache/huggingface/hub/models--TheBloke--openchat-3.5-0106-GGUF"
    blob = put(repository / "blobs" / ("a" * 64))
    link = repository / "snapshots" / ("b" * 40) / "openchat-3.5-0106.Q4_K_M.gguf"
    link.parent.mkdir(parents=True)
    link.symlink_to(blob)
    (model,) = find_elsewhere()
    assert (model.program, model.name, model.path) == ("Hugging Face", "openchat-3.5-0106", link)
    assert model.bytes == len(GGUF)
    monkeypatch.setenv("HF_HOME", str(user / "elsewhere"))
    assert find_elsewhere() == []
    monkeypatch.setenv("HF_HUB_CACHE", str(user / ".cache/huggingface/hub"))
    assert find_elsewhere() == [model]


def test_lm_studios_folder(user: Path) -> None:
    path = put(user / ".lmstudio/models/TheBloke/openchat-GGUF/openchat.Q5_K_M.gguf")
    put(path.with_name("mmproj-model-f16.gguf"))
    put(path.with_name("notes.gguf"), b"not GGUF at all")
    (model,) = find_elsewhere()
    assert (model.program, model.name, model.path) == ("LM Studio", "openchat", path)


def test_ollamas_store(user: Path) -> None:
    store = user / ".ollama/models"
    digest = "c" * 64
    blob = put(store / "blobs" / f"sha256-{digest}")
    layers = [
        {"mediaType": "application/vnd.ollama.image.template", "digest": "sha256:" + "d" * 64},
        {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}"},
    ]
    manifests = store / "manifests/registry.ollama.ai/library"
    put(manifests / "openchat/7b", json.dumps({"layers": layers}).encode())
    layers[1]["digest"] = "sha256:../../../../etc/passwd"
    put(manifests / "evil/latest", json.dumps({"layers": layers}).encode())
    put(manifests / "broken/latest", b"{")
    put(manifests / "odd/latest", b'{"layers": [1]}')
    (model,) = find_elsewhere()
    assert (model.program, model.name, model.path) == ("Ollama", "openchat-7b", blob)


def test_one_file_is_offered_once(user: Path) -> None:
    blob = put(user / ".cache/huggingface/hub/models--a--b/blobs/x")
    for revision in ("1", "2"):
        link = user / f".cache/huggingface/hub/models--a--b/snapshots/{revision}/m.gguf"
        link.parent.mkdir(parents=True)
        link.symlink_to(blob)
    assert len(find_elsewhere()) == 1
