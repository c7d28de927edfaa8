"""A base in 4-bit NormalFloat: near the GGUF file's, and said to be."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest

from openchat_local.finetune.adapter.lora import LoraConfig
from openchat_local.finetune.backends.choose import BackendError, choose_backend
from openchat_local.models.gguf import GGUFFile, read_gguf
from support.adapters import write_f32
from support.programs import run_program

pytest.importorskip("torch", reason="set up with TORCH=no")

import torch

from openchat_local.finetune.backends.torch.device import Precision
from openchat_local.finetune.backends.torch.nf4 import NF4Linear
from openchat_local.finetune.backends.torch.trainer import TorchTrainer

# The sixteen values of NF4: quantiles of a normal distribution (arXiv 2305.14314, appendix E).
NF4 = np.array(
    [-1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0,
     0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0]
)  # fmt: skip


def nearest(weight: np.ndarray) -> np.ndarray:
    """(rows, columns) rounded to NF4 in blocks of 64, by NumPy."""
    blocks = weight.reshape(-1, 64)
    scale = np.abs(blocks).max(-1, keepdims=True)
    chosen = np.abs((blocks / scale)[..., None] - NF4).argmin(-1)
    values: np.ndarray = (NF4[chosen] * scale).reshape(weight.shape)
    return values.astype(np.float32)


def test_the_product_and_its_gradient_are_those_of_the_rounded_matrix() -> None:
    random = np.random.default_rng(0)
    weight = random.standard_normal((24, 128)).astype(np.float32)
    layer = NF4Linear(torch.from_numpy(weight))
    held = torch.from_numpy(nearest(weight))
    torch.testing.assert_close(layer.weight(), held, atol=1e-5, rtol=0)
    x = torch.from_numpy(random.standard_normal((2, 5, 128), dtype=np.float32)).requires_grad_()
    y = layer(x)
    torch.testing.assert_close(y, x @ held.T, atol=1e-4, rtol=1e-4)
    (slope,) = torch.autograd.grad(y.square().sum(), x)
    torch.testing.assert_close(slope, 2 * (x @ held.T) @ held, atol=1e-2, rtol=1e-3)


def test_a_model_so_held_computes_what_its_rounded_layers_do(
    tiny: GGUFFile, tmp_path: Path
) -> None:
    source = gguf.GGUFReader(tiny.path)
    layers = (t for t in source.tensors if t.name.startswith("blk.") and "norm" not in t.name)
    changes = {layer.name: nearest(layer.data) - layer.data for layer in layers}
    rounded = read_gguf(write_f32(tiny.path, tmp_path / "rounded.gguf", changes))
    ids = np.random.default_rng(0).integers(3, tiny.vocab_size, 12).astype(np.int32)

    def trainer(base: GGUFFile, nf4: bool) -> TorchTrainer:
        precision = Precision("float32", quantised=nf4, nf4=nf4)
        return TorchTrainer(base, LoraConfig(), device=torch.device("cpu"), precision=precision)

    held = trainer(tiny, nf4=True)
    expected = trainer(rounded, nf4=False).logits(ids)
    np.testing.assert_allclose(held.logits(ids), expected, atol=1e-3)
    assert np.abs(trainer(tiny, nf4=False).logits(ids) - expected).mean() > 0.02
    about = held.describe()
    assert about["matmul"] == "NF4, by bitsandbytes"
    assert "--quantised" in about["notes"][0]


def test_mlx_has_none() -> None:
    with pytest.raises(BackendError, match="leave --nf4 away"):
        choose_backend("mlx", nf4=True)


def test_a_run_in_nf4(f16_path: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    rows = [{"prompt": f"Say {n}.", "completion": f"Here it is: {n}."} for n in range(12)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ("finetune", data, "-m", f16_path, "--template", "openchat-3.5", "--steps", "2")
    home = {"OPENCHAT_LOCAL_HOME": str(tmp_path / "home")}
    refused = run_program(*arguments, "--nf4", "--dense", **home)
    assert refused.returncode == 2
    assert "exclude each other" in refused.stderr
    done = run_program(*arguments, "--nf4", "--out", tmp_path / "run", **home)
    assert done.returncode == 0, done.stderr
    stored = json.loads((tmp_path / "run" / "run.json").read_text())
    assert stored["backend"]["matmul"] == "NF4, by bitsandbytes"
    assert "held in NF4" in " ".join(done.stderr.split())
