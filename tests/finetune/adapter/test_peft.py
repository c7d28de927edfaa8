"""PEFT files mean the same to Hugging Face's arithmetic as the GGUF file to llama.cpp."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from openchat_local.finetune.adapter import (
    from_hugging_face_rows,
    read_peft,
    to_hugging_face_rows,
    write_gguf,
    write_peft,
)
from openchat_local.finetune.adapter.lora import LoraConfig, LoraWeights
from openchat_local.models.errors import AdapterError
from openchat_local.models.gguf import read_gguf
from openchat_local.models.library.adapter_file import read_adapter
from openchat_local.models.library.origin import hub_repository
from support.adapters import Logits, expert_card, random_lora
from support.openchat_gguf import openchat_vocabulary, write_model

CONFIG = LoraConfig(rank=4, alpha=8.0)
IDS = tuple(range(400, 412))


def write(folder: Path, base: Path, config: LoraConfig = CONFIG) -> LoraWeights:
    weights = random_lora(base, config, seed=5)
    write_peft(folder, weights, config, read_gguf(base))
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
    assert config["base_model_name_or_path"] is None  # nothing that could be loaded is known
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
        tmp_path / "mamba.gguf", openchat_vocabulary(), weights=False, architecture="mamba"
    )
    with pytest.raises(AdapterError, match="'mamba'"):
        write_peft(tmp_path / "peft", {}, CONFIG, read_gguf(other))
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


def saved(folder: Path, tensors: dict[str, np.ndarray], **config: object) -> Path:
    """A PEFT folder that another program might have written."""
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    fields = {"peft_type": "LORA", "r": 4, "lora_alpha": 8.0, "bias": "none"} | config
    (folder / "adapter_config.json").write_text(json.dumps(fields))
    return folder


def test_what_was_exported_comes_back_as_it_was(tmp_path: Path, tiny_f16: Path) -> None:
    config = replace(CONFIG, rslora=True)
    before = write(tmp_path / "peft", tiny_f16, config)
    after, read = read_peft(tmp_path / "peft", read_gguf(tiny_f16))
    assert after.keys() == before.keys()
    assert read.scale == pytest.approx(config.scale)
    assert set(read.targets) == set(config.targets)
    for name, pair in after.items():
        np.testing.assert_array_equal(pair.a, before[name].a)
        np.testing.assert_allclose(pair.b, before[name].b, rtol=1e-6)


def test_ranks_and_scales_of_single_layers_are_kept(tmp_path: Path, tiny_f16: Path) -> None:
    random = np.random.default_rng(3)
    pairs: dict[str, dict[str, np.ndarray]] = {}
    for module, rank in (("layers.0.self_attn.v_proj", 2), ("layers.1.mlp.up_proj", 4)):
        out = 128 if "v_proj" in module else 512
        pairs[module] = {
            "A": random.standard_normal((rank, 256), dtype=np.float32),
            "B": random.standard_normal((out, rank), dtype=np.float32),
        }
    tensors = {
        f"base_model.model.model.{module}.lora_{half}.default.weight": values
        for module, both in pairs.items()
        for half, values in both.items()
    }
    folder = saved(
        tmp_path / "peft", tensors, rank_pattern={"v_proj": 2}, alpha_pattern={"v_proj": 6.0}
    )
    weights, config = read_peft(folder, read_gguf(tiny_f16))
    write_gguf(tmp_path / "a.gguf", weights, config, read_gguf(tiny_f16), expert_card(tiny_f16))
    adapter = read_adapter(tmp_path / "a.gguf")
    for name, module, scale in (
        ("blk.0.attn_v", "layers.0.self_attn.v_proj", 6.0 / 2),
        ("blk.1.ffn_up", "layers.1.mlp.up_proj", 8.0 / 4),
    ):
        pair = weights[name]
        wanted = scale * pairs[module]["B"] @ pairs[module]["A"]
        np.testing.assert_allclose(adapter.scale(len(pair.a)) * pair.b @ pair.a, wanted, rtol=1e-4)


@pytest.mark.parametrize(
    ("config", "tensor", "says"),
    [
        ({"use_dora": True}, "self_attn.v_proj", "use_dora = True"),
        ({"modules_to_save": ["lm_head"]}, "self_attn.v_proj", "modules_to_save"),
        ({"peft_type": "IA3"}, "self_attn.v_proj", "peft_type = 'IA3'"),
        ({"r": 0}, "self_attn.v_proj", "r = 0"),
        ({"alpha_pattern": {".*v_proj": 2}}, "self_attn.v_proj", "alpha_pattern"),
        ({}, "self_attn.rotary", "changes 'base_model"),
    ],
)
def test_what_is_no_plain_lora_of_a_llama_is_refused(
    tmp_path: Path, tiny_f16: Path, config: dict[str, object], tensor: str, says: str
) -> None:
    name = f"base_model.model.model.layers.0.{tensor}.lora_"
    tensors = {
        f"{name}A.weight": np.ones((4, 256), np.float32),
        f"{name}B.weight": np.ones((128, 4), np.float32),
    }
    folder = saved(tmp_path / "peft", tensors, **config)
    with pytest.raises(AdapterError, match=re.escape(says)):
        read_peft(folder, read_gguf(tiny_f16))


def test_damaged_folders_are_refused(tmp_path: Path, tiny_f16: Path) -> None:
    base = read_gguf(tiny_f16)
    folder = saved(tmp_path / "peft", {"x": np.ones((2, 2), np.float32)})
    with pytest.raises(AdapterError, match="changes 'x'"):
        read_peft(folder, base)
    (folder / "adapter_model.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(AdapterError, match="cannot be read"):
        read_peft(folder, base)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(AdapterError, match="save the adapter as safetensors"):
        read_peft(folder, base)
    (folder / "adapter_config.json").write_text("[]")
    with pytest.raises(AdapterError, match="not the configuration of a LoRA adapter"):
        read_peft(folder, base)


@pytest.mark.skipif(os.environ.get("TORCH") == "no", reason="set up with TORCH=no")
def test_bfloat16_is_read(tmp_path: Path, tiny_f16: Path) -> None:
    import torch
    from safetensors.torch import save_file as save_torch

    name = "base_model.model.model.layers.0.self_attn.v_proj.lora_"
    a = torch.linspace(-3, 3, 4 * 256).reshape(4, 256).to(torch.bfloat16)
    folder = saved(tmp_path / "peft", {"x": np.ones((2, 2), np.float32)})
    save_torch(
        {f"{name}A.weight": a, f"{name}B.weight": torch.ones(128, 4, dtype=torch.bfloat16)},
        folder / "adapter_model.safetensors",
    )
    weights, _ = read_peft(folder, read_gguf(tiny_f16))
    np.testing.assert_array_equal(weights["blk.0.attn_v"].a, a.float().numpy())


def test_the_hub_id_is_told_by_the_file_or_the_catalogue(
    tmp_path: Path, starter_path: Path, tiny_f16: Path
) -> None:
    assert hub_repository(read_gguf(starter_path)) == "HuggingFaceTB/SmolLM2-135M-Instruct"
    file = read_gguf(tiny_f16)
    assert hub_repository(file) is None
    for value, told in (
        ("https://huggingface.co/openchat/openchat-3.5-0106", "openchat/openchat-3.5-0106"),
        ("https://huggingface.co/someone/some-GGUF", None),
        ("https://example.com/a/b", None),
    ):
        metadata = {**file.metadata, "general.source.repo_url": value}
        assert hub_repository(replace(file, metadata=metadata)) == told
