"""What is written is what is read, and what llama.cpp adds is scale · B·A."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from openchat_local.finetune.adapter import read_gguf_adapter, write_gguf
from openchat_local.finetune.adapter.lora import LoraConfig, LoraPair
from openchat_local.models.errors import AdapterError
from openchat_local.models.gguf import GGUFFile, read_gguf
from openchat_local.models.library.adapter_file import AdapterCard, TrainedClass, read_adapter
from support.adapters import (
    Logits,
    deltas,
    expert_card,
    random_lora,
    write_f32,
    write_random_adapter,
)

IDS = tuple(range(400, 416))


def test_weights_scale_and_card_are_read_back(tmp_path: Path, tiny_f16: Path) -> None:
    config = LoraConfig(rank=4, alpha=12.0, targets=("attn_q", "ffn_down"))
    weights = random_lora(tiny_f16, config, seed=1)
    card = AdapterCard(
        classes=(TrainedClass("专家", "GPT4 Correct", 1.0), TrainedClass("other", "", 0.1)),
        template="openchat-3.5",
        base_name="tiny",
        base_fingerprint="f" * 64,
        data_hash="d" * 64,
        system_prompt="Be kind.\n",
    )
    path = tmp_path / "a.gguf"
    write_gguf(path, weights, config, read_gguf(tiny_f16), card)
    read, read_config, read_card = read_gguf_adapter(path)
    assert read_card == card
    assert read_card.condition == "GPT4 Correct"
    assert (read_config.rank, read_config.scale) == (4, 3.0)
    assert set(read_config.targets) == {"attn_q", "ffn_down"}
    assert read.keys() == weights.keys()
    for name, pair in weights.items():
        np.testing.assert_array_equal(read[name].a, pair.a)
        np.testing.assert_array_equal(read[name].b, pair.b)
    assert [file.name for file in tmp_path.iterdir()] == ["a.gguf"]


def test_a_card_that_knows_nothing_is_read_back(tmp_path: Path, tiny_f16: Path) -> None:
    path = write_random_adapter(tmp_path / "a.gguf", tiny_f16, card=AdapterCard())
    assert read_adapter(path).card == AdapterCard()
    assert read_adapter(path).card.condition is None


@pytest.mark.parametrize("rslora", [False, True])
def test_llama_cpp_adds_scale_times_b_times_a(tmp_path: Path, tiny_f32: Path, rslora: bool) -> None:
    config = LoraConfig(rank=8, alpha=16.0, rslora=rslora)
    weights = random_lora(tiny_f32, config, seed=3)
    adapter = tmp_path / "a.gguf"
    write_gguf(adapter, weights, config, read_gguf(tiny_f32), expert_card(tiny_f32))
    strong = tmp_path / "strong.gguf"
    twice = replace(config, alpha=config.alpha * 2)
    write_gguf(strong, weights, twice, read_gguf(tiny_f32), expert_card(tiny_f32))
    merged = write_f32(tiny_f32, tmp_path / "merged.gguf", deltas(weights, config))
    base = Logits(tiny_f32)
    plain, adapted = base(IDS), base(IDS, adapter)
    np.testing.assert_array_equal(base(IDS, strong), base(IDS, adapter, 2.0))
    np.testing.assert_array_equal(base(IDS), plain)
    base.close()
    expected = Logits(merged)(IDS)
    assert np.abs(adapted - expected).mean() < 1e-3
    assert np.abs(adapted - plain).mean() > 0.05


def test_the_starter_as_well(tmp_path: Path, starter_f32: GGUFFile) -> None:
    base = starter_f32.path
    config = LoraConfig(rank=8, alpha=16.0)
    weights = random_lora(base, config, seed=4)
    adapter = tmp_path / "a.gguf"
    write_gguf(adapter, weights, config, read_gguf(base), expert_card(base))
    logits = Logits(base)
    plain, adapted = logits(IDS[:6]), logits(IDS[:6], adapter)
    logits.close()
    expected = Logits(write_f32(base, tmp_path / "merged.gguf", deltas(weights, config)))(IDS[:6])
    # Thirty blocks deep, the KV cache's float16 alone makes some 1e-3 of difference.
    assert np.abs(adapted - expected).mean() < 5e-3
    assert np.abs(adapted - plain).mean() > 0.05


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, tiny_f16: Path) -> None:
    config = LoraConfig(rank=2, alpha=4.0, targets=("attn_q",))
    weights = dict(random_lora(tiny_f16, config, seed=1))
    pair = weights["blk.0.attn_q"]
    weights["blk.0.attn_q"] = LoraPair(pair.a * np.float32("nan"), pair.b)
    path = tmp_path / "a.gguf"
    write_gguf(path, weights, config, read_gguf(tiny_f16), AdapterCard())
    with pytest.raises(AdapterError, match="not finite"):
        read_gguf_adapter(path)


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, tiny_f16: Path) -> None:
    path = write_random_adapter(tmp_path / "a.gguf", tiny_f16, seed=1)
    before = path.read_bytes()
    config = LoraConfig(rank=2, alpha=4.0, targets=("attn_q",))
    weights = dict(random_lora(tiny_f16, config, seed=2))
    weights["blk.1.attn_q"] = LoraPair(np.array(["not", "numbers"]).reshape(2, 1), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="could not convert"):
        write_gguf(path, weights, config, read_gguf(tiny_f16), AdapterCard())
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.gguf"]
