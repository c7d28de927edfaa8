"""Every architecture that can be trained: MLX, torch and llama.cpp compute the same function,
both learn the same, and what is exported is what was trained."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from openchat_local.finetune.adapter import (
    merge,
    read_gguf_adapter,
    read_peft,
    write_gguf,
    write_peft,
)
from openchat_local.finetune.adapter.lora import LoraConfig
from openchat_local.finetune.architectures import ARCHITECTURES
from openchat_local.finetune.backends.hugging_face import HuggingFaceWeights
from openchat_local.finetune.backends.mlx.device import Precision as MLXPrecision
from openchat_local.finetune.backends.mlx.trainer import MLXTrainer
from openchat_local.finetune.backends.model_file import Weights
from openchat_local.finetune.backends.trainer import OptimizerConfig, Trainer
from openchat_local.finetune.data.batches import Batch, Row, build_batch
from openchat_local.models.gguf import GGUFFile, read_gguf
from support.adapters import Logits, expert_card, random_lora
from support.architectures import CONTEXT, TINY, Setting, config_of, write_tiny
from support.quantised import quantised

pytest.importorskip("torch", reason="set up with TORCH=no")

import torch

from openchat_local.finetune.backends.torch.device import Precision
from openchat_local.finetune.backends.torch.trainer import TorchTrainer
from support.hugging_face import write_folder

CONFIG = LoraConfig(rank=4, alpha=8.0)
OPTIMIZER = OptimizerConfig(weight_decay=0.1)
every_one = pytest.mark.parametrize("name", sorted(ARCHITECTURES))


@pytest.fixture(scope="module")
def tiny_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., GGUFFile]:
    """The tiny model of an architecture, with an output layer of its own if not `tied`."""
    folder = tmp_path_factory.mktemp("architectures")

    @cache
    def tiny(name: str, *, tied: bool = True) -> GGUFFile:
        return read_gguf(write_tiny(folder / f"{name}-{tied}.gguf", name, tied=tied))

    return tiny


def trainers(
    base: GGUFFile,
    *,
    checkpointing: bool = False,
    quantised: bool = False,
    weights: Weights | None = None,
) -> list[Trainer]:
    return [
        MLXTrainer(
            base, CONFIG, OPTIMIZER,
            precision=MLXPrecision("float32", quantised=quantised), checkpointing=checkpointing,
            weights=weights,
        ),
        TorchTrainer(
            base, CONFIG, OPTIMIZER,
            device=torch.device("cpu"), precision=Precision("float32", quantised=quantised),
            checkpointing=checkpointing, weights=weights,
        ),
    ]  # fmt: skip


def some_ids(count: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(3, 259, count).astype(np.int32)


def step_of(*, packed: bool) -> list[Batch]:
    """Four conversations of other lengths; packed, three of them share a row."""
    ids, conversations = some_ids(120), []
    for number, (start, end) in enumerate(((0, 20), (20, 55), (55, 80), (80, 120))):
        weights = np.full(end - start, (1.0, 0.1)[number % 2], np.float32)
        weights[:3] = 0
        conversations.append(Row(ids[start:end], weights, number % 2, number + 1))
    groups = [[(0, 1, 2), (3,)]] if packed else [[(0,), (1,)], [(2,), (3,)]]
    return [build_batch(conversations, group) for group in groups]


def assert_agree(found: np.ndarray, expected: np.ndarray) -> None:
    """Mean error below 0.01, and the same likeliest token wherever that is no close call."""
    error = np.abs(found - expected)
    assert error.mean() < 0.01
    second, first = np.sort(expected, axis=-1)[:, -2:].T
    clear = first - second > 2 * error.max()
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(found.argmax(-1)[clear], expected.argmax(-1)[clear])


def llama_cpps(path: Path, ids: np.ndarray, adapter: Path | None = None) -> np.ndarray:
    reference = Logits(path)
    try:
        return reference(ids.tolist(), adapter)
    finally:
        reference.close()


def test_each_table_has_a_model_here() -> None:
    assert TINY.keys() == ARCHITECTURES.keys()


@every_one
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "own"])
def test_logits_are_those_of_llama_cpp(
    name: str, tied: bool, tiny_of: Callable[..., GGUFFile]
) -> None:
    file = tiny_of(name, tied=tied)
    expected = llama_cpps(file.path, some_ids())
    assert expected.std() > 0.2
    for trainer in trainers(file):
        assert_agree(trainer.logits(some_ids()), expected)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("llama", {"factor": 4.0}),
        ("llama", {"type": "yarn", "factor": 4.0, "original_context_length": 128}),
        ("qwen3", {"type": "yarn", "factor": 4.0, "original_context_length": 128}),
        ("qwen3", {"type": "yarn", "factor": 8.0, "attn_factor": 0.8}),
        ("phi3", {"type": "longrope", "original_context_length": CONTEXT}),  # the short factors
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(map(str, value.values())),
)
def test_stretched_rotations_are_llama_cpps(
    name: str, settings: dict[str, Setting], tmp_path: Path, tiny_of: Callable[..., GGUFFile]
) -> None:
    scaling = {f"rope.scaling.{key}": value for key, value in settings.items()}
    file = read_gguf(write_tiny(tmp_path / "stretched.gguf", name, settings=scaling))
    expected = llama_cpps(file.path, some_ids())
    for trainer in trainers(file):
        assert_agree(trainer.logits(some_ids()), expected)
    assert np.abs(expected - llama_cpps(tiny_of(name).path, some_ids())).mean() > 0.05


@every_one
@pytest.mark.parametrize("packed", [False, True], ids=["rows", "packed"])
def test_one_step_has_the_same_loss_and_gradients(
    name: str, packed: bool, tiny_of: Callable[..., GGUFFile]
) -> None:
    file = tiny_of(name)
    weights = random_lora(file.path, CONFIG, seed=1, size=0.05)
    both = trainers(file, checkpointing=packed)
    for trainer in both:
        trainer.set_lora(weights)
    ours, theirs = (trainer.step(step_of(packed=packed), 1e-3) for trainer in both)
    assert theirs.loss == pytest.approx(ours.loss, rel=1e-5)
    assert theirs.gradient_norm == pytest.approx(ours.gradient_norm, rel=1e-4)
    assert theirs.classes.keys() == ours.classes.keys() == {0, 1}
    # After one step the first moment is 0.1 times the clipped gradient.
    found, expected = (
        {key: value for key, value in trainer.state().items() if key.startswith("mean.")}
        for trainer in both
    )
    assert len(found) == 2 * len(weights)
    for key, gradient in found.items():
        size = np.linalg.norm(expected[key])
        assert size > 0, key
        assert np.linalg.norm(gradient - expected[key]) / size < 1e-4, key


@every_one
@pytest.mark.parametrize("trained_by", [0, 1], ids=["MLX", "torch"])
def test_a_trained_adapter_gives_llama_cpps_logits_and_those_of_the_merged_model(
    name: str, trained_by: int, tmp_path: Path, tiny_of: Callable[..., GGUFFile]
) -> None:
    file, ids = tiny_of(name, tied=trained_by == 0), some_ids()
    trainer = trainers(file)[trained_by]
    plain = trainer.logits(ids)
    losses = [trainer.step(step_of(packed=False), 1e-2).loss for _ in range(8)]
    assert losses[-1] < losses[0] - 0.2
    found = trainer.logits(ids)
    path = tmp_path / "adapter.gguf"
    write_gguf(path, trainer.lora(), CONFIG, file, expert_card(file.path))
    assert_agree(found, llama_cpps(file.path, ids, path))
    assert np.abs(found - plain).mean() > 0.1
    merged = tmp_path / "merged.gguf"
    merge(path, file.path, merged, "f32")
    assert_agree(found, llama_cpps(merged, ids))
    read, config, _ = read_gguf_adapter(path)
    assert read.keys() == trainer.lora().keys()
    assert set(config.targets) == set(ARCHITECTURES[name].linears)


@every_one
def test_a_quantised_base_computes_what_its_dense_form_does(
    name: str, tmp_path: Path, tiny_of: Callable[..., GGUFFile]
) -> None:
    source = write_tiny(tmp_path / "f32.gguf", name, tied=False)
    file = read_gguf(quantised(source, "Q4_0", embedding=True))
    assert {tensor.type for tensor in file.tensors if len(tensor.shape) > 1} >= {"Q4_0"}
    exact = trainers(file)[0].logits(some_ids())
    for trainer in trainers(file, quantised=True):
        np.testing.assert_allclose(trainer.logits(some_ids()), exact, atol=2e-4)
        assert trainer.step(step_of(packed=True), 1e-3).gradient_norm > 0
    assert np.abs(exact - trainers(tiny_of(name, tied=False))[0].logits(some_ids())).mean() > 0.01


@every_one
def test_hugging_faces_own_model_and_peft_compute_the_same(
    name: str, tmp_path: Path, tiny_of: Callable[..., GGUFFile]
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    file, ids = tiny_of(name), some_ids()
    config = config_of(name, tied=True)
    folder = write_folder(tmp_path / "folder", file.path, torch.float32, config=config)
    weights = random_lora(file.path, CONFIG, seed=1, size=0.05)
    write_gguf(tmp_path / "adapter.gguf", weights, CONFIG, file, expert_card(file.path))
    write_peft(tmp_path / "peft", weights, CONFIG, file, str(folder))
    model = AutoModelForCausalLM.from_pretrained(folder)
    tuned = PeftModel.from_pretrained(model, str(tmp_path / "peft")).eval()
    with torch.no_grad():
        found = tuned(torch.tensor(ids[None].astype(np.int64))).logits[0].numpy()
    assert_agree(found, llama_cpps(file.path, ids, tmp_path / "adapter.gguf"))
    # What peft writes is read as what it was made of.
    tuned.save_pretrained(tmp_path / "theirs")
    pairs, read = read_peft(tmp_path / "theirs", file)
    assert (read.rank, read.scale) == (CONFIG.rank, CONFIG.scale)
    assert pairs.keys() == weights.keys()
    for layer, pair in pairs.items():
        np.testing.assert_array_equal(pair.a, weights[layer].a)
        np.testing.assert_array_equal(pair.b, weights[layer].b)
    # And the folder is trained on as the file is.
    exact = trainers(file)[0].logits(ids)
    for trainer in trainers(file, weights=HuggingFaceWeights(folder, file)):
        np.testing.assert_allclose(trainer.logits(ids), exact, atol=1e-4)
