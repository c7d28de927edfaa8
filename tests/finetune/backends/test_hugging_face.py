"""A Hugging Face folder of the base is trained on as the GGUF file is, and held to it."""

from __future__ import annotations

import importlib.util
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openchat_local.finetune.adapter.lora import LoraConfig
from openchat_local.finetune.backends.hugging_face import HuggingFaceWeights
from openchat_local.finetune.backends.trainer import Trainer
from openchat_local.models.errors import ModelFileError
from openchat_local.models.gguf import GGUFFile, read_gguf
from support.adapters import write_f32
from support.openchat_gguf import openchat_vocabulary, write_model
from support.programs import run_program

pytest.importorskip("torch", reason="set up with TORCH=no")

import torch

from openchat_local.finetune.backends.mlx.device import Precision as MLXPrecision
from openchat_local.finetune.backends.mlx.trainer import MLXTrainer
from openchat_local.finetune.backends.torch.device import Precision
from openchat_local.finetune.backends.torch.trainer import TorchTrainer
from support.hugging_face import write_folder

CONFIG = LoraConfig(rank=4)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> GGUFFile:
    folder = tmp_path_factory.mktemp("small")
    path = write_model(
        folder / "f16.gguf", openchat_vocabulary(), context=512, embedding=64, feed_forward=128
    )
    return read_gguf(write_f32(path, folder / "f32.gguf"))


@pytest.fixture(scope="session")
def whole_folder(small: GGUFFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("whole"), small.path, torch.float32)


@pytest.fixture
def folder(whole_folder: Path, tmp_path: Path) -> Path:
    """The same model as `small`, to be spoilt."""
    return shutil.copytree(whole_folder, tmp_path / "folder")


def mlx(base: GGUFFile, weights: HuggingFaceWeights | None) -> Trainer:
    precision = MLXPrecision("float32", quantised=False)
    return MLXTrainer(base, CONFIG, precision=precision, weights=weights)


def on_torch(base: GGUFFile, weights: HuggingFaceWeights | None) -> Trainer:
    return TorchTrainer(
        base, CONFIG, weights=weights,
        device=torch.device("cpu"), precision=Precision("float32", quantised=False),
    )  # fmt: skip


@pytest.mark.parametrize(("model", "shards"), [("small", 1), ("llama_3_shaped", 3)])
@pytest.mark.parametrize("make", [mlx, on_torch], ids=["MLX", "torch"])
def test_the_folder_computes_what_the_gguf_file_does(
    make: Callable[[GGUFFile, HuggingFaceWeights | None], Trainer],
    model: str,
    shards: int,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    base: GGUFFile = request.getfixturevalue(model)
    weights = HuggingFaceWeights(
        write_folder(tmp_path / "folder", base.path, torch.float32, shards), base
    )
    ids = np.random.default_rng(0).integers(3, base.vocab_size, 12).astype(np.int32)
    np.testing.assert_array_equal(make(base, weights).logits(ids), make(base, None).logits(ids))


def test_its_finer_weights_are_used_beside_a_quantised_file(
    tiny: GGUFFile, quantised_tiny: Callable[[str], GGUFFile], tmp_path: Path
) -> None:
    coarse = quantised_tiny("Q4_K")
    folder = write_folder(tmp_path / "folder", tiny.path, torch.bfloat16)
    ids = np.random.default_rng(0).integers(3, tiny.vocab_size, 12).astype(np.int32)
    exact = on_torch(tiny, None).logits(ids)
    found = on_torch(coarse, HuggingFaceWeights(folder, coarse)).logits(ids)
    assert np.abs(found - exact).mean() < np.abs(on_torch(coarse, None).logits(ids) - exact).mean()


def test_the_vocabulary_may_be_sentencepieces(small: GGUFFile, folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    spec = importlib.util.find_spec("mistral_common")
    assert spec is not None
    assert spec.origin is not None
    pieces = Path(spec.origin).parent / "data" / "tokenizer.model.v1"
    shutil.copy(pieces, folder / "tokenizer.model")
    HuggingFaceWeights(folder, small)
    (folder / "added_tokens.json").write_text(json.dumps({"<|other|>": 32000}))
    with pytest.raises(ModelFileError, match=r"token 32000 is '<\|other\|>' in the folder"):
        HuggingFaceWeights(folder, small)


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def another_vocabulary(folder: Path) -> None:
    def swap(content: dict[str, Any]) -> None:
        ids = content["model"]["vocab"]
        ids["<unk>"], ids["<s>"] = ids["<s>"], ids["<unk>"]

    edit(folder / "tokenizer.json", swap)


def other_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    raw = file.read_bytes()
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    values = np.random.default_rng(7).standard_normal((len(raw) - start) // 4).astype(np.float32)
    file.write_bytes(raw[:start] + values.tobytes())


def cut_short(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json cannot be read"),
        (lambda f: (f / "config.json").write_text("[1]"), "is not a JSON object"),
        (
            lambda f: edit(f / "config.json", lambda c: c.update(model_type="gpt2")),
            "the type 'gpt2'",
        ),
        (
            lambda f: edit(f / "config.json", lambda c: c.update(num_key_value_heads=4)),
            "attention.head_count_kv",
        ),
        (lambda f: edit(f / "config.json", lambda c: c.update(rope_theta=5e5)), "rope.freq_base"),
        (lambda f: (f / "tokenizer.json").unlink(), "neither tokenizer.json nor tokenizer.model"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "not a tokenizer of a kind known"),
        (another_vocabulary, "token 0 is '<s>' in the folder and '<unk>' in the file"),
        (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 64), "is not a safetensors file"),
        (cut_short, "is not whole"),
        (other_weights, "holds another model than"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused_in_one_sentence(
    small: GGUFFile, folder: Path, spoil: Callable[[Path], object], sentence: str
) -> None:
    spoil(folder)
    with pytest.raises(ModelFileError, match=sentence.replace("(", r"\(")) as refusal:
        HuggingFaceWeights(folder, small)
    assert "\n" not in str(refusal.value)


def test_a_tensor_that_is_missing_is_named(small: GGUFFile, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", small.path, torch.float32, shards=2)
    index = folder / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    gone = places["model.layers.0.mlp.up_proj.weight"]
    kept = {name: file for name, file in places.items() if file != gone}
    index.write_text(json.dumps({"weight_map": kept}))
    with pytest.raises(ModelFileError, match="no tensor"):
        on_torch(small, HuggingFaceWeights(folder, small))


def test_a_run_on_a_folder_says_so(small: GGUFFile, folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    rows = [{"prompt": f"Say {n}.", "completion": f"Here it is: {n}."} for n in range(12)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    home = {"OPENCHAT_LOCAL_HOME": str(tmp_path / "home")}
    arguments = (
        "finetune", data, "-m", small.path, "--template", "openchat-3.5", "--steps", "2",
        "--backend", "mlx",
    )  # fmt: skip
    refused = run_program(*arguments, "--weights", folder, "--quantised", **home)
    assert refused.returncode == 2
    assert "leave one out" in refused.stderr
    done = run_program(*arguments, "--weights", folder, "--out", tmp_path / "run", **home)
    assert done.returncode == 0, done.stderr
    assert "Trains on the weights in" in " ".join(done.stderr.split())
    stored = json.loads((tmp_path / "run" / "run.json").read_text())
    assert stored["settings"]["weights"] == str(folder)
    (folder / "model.safetensors").unlink()
    again = run_program("finetune", "--resume", tmp_path / "run", **home)
    assert again.returncode == 1
    assert "has no model.safetensors" in again.stderr
