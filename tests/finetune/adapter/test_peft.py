"""PEFT files mean the same to Hugging Face's arithmetic as the GGUF file to llama.cpp."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from openchat_local.finetune.adapter import (
    from_hugging_face_rows,
    to_hugging_face_rows,
    write_gguf,
    write_peft,
)
from openchat_local.finetune.trainer import LoraConfig, LoraWeights
from openchat_local.models.errors import AdapterError
from openchat_local.models.gguf import read_gguf
from support.adapters import Logits, expert_card, random_lora
from support.openchat_gguf import openchat_vocabulary, write_model

CONFIG = LoraConfig(rank=4, alpha=8.0)
IDS = tuple(range(400, 412))


def write(folder: Path, base: Path, config: LoraConfig = CONFIG) -> LoraWeights:
    weights = random_lora(base, config, seed=5)
    write_peft(folder, weights, config, read_gguf(base), expert_card(base))
    return weights


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 4))
def test_the_row_orders_are_inverses(heads: int, pairs: int, columns: int) -> None:
    rows = heads * pairs * 2
    matrix = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
    there = to_hugging_face_rows(matrix, heads)
    np.testing.assert_array_equal(from_hugging_face_rows(there, heads), matrix)
    for row in range(rows):  # a head keeps its rows; its even ones come first
        head, within = divmod(row, pairs * 2)
        target = head * pairs * 2 + within % 2 * pairs + within // 2
        np.testing.assert_array_equal(there[target], matrix[row])


def test_names_shapes_and_settings(tmp_path: Path, tiny_f16: Path) -> None:
    write(tmp_path / "peft", tiny_f16)
    tensors = load_file(tmp_path / "peft" / "adapter_model.safetensors")
    assert len(tensors) == 2 * 7 * 2
    prefix = "base_model.model.model.layers.1."
    assert tensors[prefix + "self_attn.k_proj.lora_A.weight"].shape == (4, 256)
    assert tensors[prefix + "self_attn.k_proj.lora_B.weight"].shape == (128, 4)
    assert tensors[prefix + "mlp.down_proj.lora_A.weight"].shape == (4, 512)
    config = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 8.0)
    assert config["layers_to_transform"] is None
    assert "o_proj" in config["target_modules"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["peft"]


def test_an_export_replaces_the_one_before(tmp_path: Path, tiny_f16: Path) -> None:
    write(tmp_path / "peft", tiny_f16)
    write(tmp_path / "peft", tiny_f16, replace(CONFIG, rank=2))
    config = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert config["r"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["peft"]


def test_other_architectures_are_refused(tmp_path: Path) -> None:
    other = write_model(
        tmp_path / "qwen.gguf", openchat_vocabulary(), weights=False, architecture="qwen2"
    )
    with pytest.raises(AdapterError, match="'qwen2'"):
        write_peft(tmp_path / "peft", {}, CONFIG, read_gguf(other), expert_card(other))
    assert not (tmp_path / "peft").exists()


@pytest.mark.parametrize("targets", [("attn_q", "attn_k"), CONFIG.targets], ids=["q and k", "all"])
def test_hugging_faces_arithmetic_gives_llama_cpps_logits(
    tmp_path: Path, tiny_f32: Path, targets: tuple[str, ...]
) -> None:
    config = replace(CONFIG, targets=targets)
    weights = write(tmp_path / "peft", tiny_f32, config)
    adapter = tmp_path / "a.gguf"
    write_gguf(adapter, weights, config, read_gguf(tiny_f32), expert_card(tiny_f32))
    logits = Logits(tiny_f32)
    expected, plain = logits(IDS, adapter), logits(IDS)
    logits.close()
    peft = load_file(tmp_path / "peft" / "adapter_model.safetensors")
    model = HuggingFaceLlama(tiny_f32, peft, config.scale)
    assert np.abs(model(IDS) - expected).mean() < 2e-3
    assert np.abs(plain - expected).mean() > 0.02


@pytest.mark.skipif(os.environ.get("TORCH") == "no", reason="set up with TORCH=no")
@pytest.mark.parametrize("rslora", [False, True], ids=["alpha / r", "alpha / √r"])
def test_peft_itself_loads_it_and_gives_llama_cpps_logits(
    tmp_path: Path, tiny_f32: Path, rslora: bool
) -> None:
    import torch
    from peft import PeftModel
    from transformers import LlamaConfig, LlamaForCausalLM

    config = replace(CONFIG, rslora=rslora)
    weights = write(tmp_path / "peft", tiny_f32, config)
    adapter = tmp_path / "a.gguf"
    write_gguf(adapter, weights, config, read_gguf(tiny_f32), expert_card(tiny_f32))
    logits = Logits(tiny_f32)
    expected, plain = logits(IDS, adapter), logits(IDS)
    logits.close()

    reference = HuggingFaceLlama(tiny_f32, {}, 0.0)
    state = reference.state()
    vocabulary, width = state["model.embed_tokens.weight"].shape
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=len(state["model.layers.0.mlp.up_proj.weight"]),
            num_hidden_layers=reference.blocks,
            num_attention_heads=reference.heads,
            num_key_value_heads=reference.kv_heads,
            rms_norm_eps=reference.epsilon,
            tie_word_embeddings=True,
        )
    )
    tensors = {name: torch.tensor(value, dtype=torch.float32) for name, value in state.items()}
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert (missing, unexpected) == (["lm_head.weight"], [])  # tied
    ids = torch.tensor([IDS])
    with torch.no_grad():
        assert np.abs(model(ids).logits[0].numpy() - plain).mean() < 2e-3
        tuned = PeftModel.from_pretrained(model, tmp_path / "peft").eval()
        found = tuned(ids).logits[0].numpy()
    assert np.abs(found - expected).mean() < 2e-3
    assert np.abs(plain - expected).mean() > 0.02


class HuggingFaceLlama:
    """`transformers`' Llama with a PEFT adapter, in NumPy: halves of a head are rotated
    together, which is what needs Hugging Face's row order."""

    heads, kv_heads, blocks, epsilon, theta = 4, 2, 2, 1e-5, 10000.0
    modules = {  # noqa: RUF012
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }

    def __init__(self, base: Path, peft: dict[str, np.ndarray], scale: float) -> None:
        self._base = {
            tensor.name: np.array(tensor.data, np.float64)
            for tensor in gguf.GGUFReader(base).tensors
        }
        self._peft, self._scale = peft, scale

    def state(self) -> dict[str, np.ndarray]:
        """The base as `transformers` names it."""
        names = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
        state = {
            "model.embed_tokens.weight": self._base["token_embd.weight"],
            "model.norm.weight": self._base["output_norm.weight"],
        }
        for block in range(self.blocks):
            for name, module in names.items():
                norm = self._base[f"blk.{block}.{name}.weight"]
                state[f"model.layers.{block}.{module}.weight"] = norm
            for name, module in self.modules.items():
                state[f"model.layers.{block}.{module}.weight"] = self.weight(block, name)
        return state

    def weight(self, block: int, layer: str) -> np.ndarray:
        base = self._base[f"blk.{block}.{layer}.weight"]
        if layer in ("attn_q", "attn_k"):
            base = to_hugging_face_rows(base, self.heads if layer == "attn_q" else self.kv_heads)
        name = f"base_model.model.model.layers.{block}.{self.modules[layer]}"
        if f"{name}.lora_A.weight" not in self._peft:
            return base
        a, b = (self._peft[f"{name}.lora_{half}.weight"].astype(np.float64) for half in "AB")
        return base + self._scale * b @ a

    def __call__(self, ids: tuple[int, ...]) -> np.ndarray:
        x = self._base["token_embd.weight"][list(ids)]
        for block in range(self.blocks):
            x = x + self.attention(block, self.norm(x, f"blk.{block}.attn_norm.weight"))
            h = self.norm(x, f"blk.{block}.ffn_norm.weight")
            gate = h @ self.weight(block, "ffn_gate").T
            up = h @ self.weight(block, "ffn_up").T
            x = x + (gate / (1 + np.exp(-gate)) * up) @ self.weight(block, "ffn_down").T
        return self.norm(x, "output_norm.weight") @ self._base["token_embd.weight"].T

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + self.epsilon) * self._base[name]

    def attention(self, block: int, x: np.ndarray) -> np.ndarray:
        length = len(x)

        def heads(layer: str, count: int) -> np.ndarray:
            return (x @ self.weight(block, layer).T).reshape(length, count, -1).swapaxes(0, 1)

        q = self.rotated(heads("attn_q", self.heads))
        k = self.rotated(heads("attn_k", self.kv_heads)).repeat(self.heads // self.kv_heads, 0)
        v = heads("attn_v", self.kv_heads).repeat(self.heads // self.kv_heads, 0)
        scores = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])
        scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = shares / shares.sum(-1, keepdims=True) @ v
        return mixed.swapaxes(0, 1).reshape(length, -1) @ self.weight(block, "attn_output").T

    def rotated(self, x: np.ndarray) -> np.ndarray:
        half = x.shape[-1] // 2
        angles = np.arange(x.shape[1])[:, None] * self.theta ** -(np.arange(half) / half)
        first, second = x[..., :half], x[..., half:]
        turned = (
            first * np.cos(angles) - second * np.sin(angles),
            second * np.cos(angles) + first * np.sin(angles),
        )
        return np.concatenate(turned, -1)
