"""A model in Hugging Face's layout, made of a GGUF file by another way than ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

_MODULES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_FOUR_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_OUTER = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}


def write_folder(
    folder: Path,
    source: Path,
    dtype: torch.dtype,
    shards: int = 1,
    config: Mapping[str, object] | None = None,
) -> Path:
    """Write config.json, tokenizer.json and safetensors of a model in float32; `config` for one
    that is no Mistral."""
    folder.mkdir(parents=True, exist_ok=True)
    reader = gguf.GGUFReader(source)

    def field(key: str) -> object:
        return reader.fields[key].contents()

    architecture = field("general.architecture")
    heads = {
        "attn_q": field(f"{architecture}.attention.head_count"),
        "attn_k": field(f"{architecture}.attention.head_count_kv"),
    }
    interleaved = architecture in ("llama", "smollm3", "granite")
    modules = _MODULES | ({"ffn_up": "mlp.gate_up_proj"} if architecture == "phi3" else {})
    if architecture in ("gemma2", "gemma3"):
        modules |= _FOUR_NORMS
    shift = 1 if str(architecture).startswith("gemma") else 0
    tensors = {}
    for tensor in reader.tensors:
        name, _, kind = tensor.name.rpartition(".")
        if name.startswith("rope_f"):  # Hugging Face computes them from its configuration
            continue
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        layer = name.rpartition(".")[2]
        if layer.endswith("_norm"):
            values = values - shift
        if interleaved and layer in heads:  # the even rows of each head first, then the odd ones
            values = np.concatenate(
                [
                    np.concatenate([head[0::2], head[1::2]])
                    for head in np.split(values, int(str(heads[layer])))
                ]
            )
        if name.startswith("blk."):
            module = f"model.layers.{name.split('.')[1]}.{modules[layer]}"
        else:
            module = _OUTER[name]
        tensors[f"{module}.{kind}"] = torch.from_numpy(values.copy()).to(dtype)
    _write_tensors(folder, tensors, shards)
    config = config or {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "num_attention_heads": heads["attn_q"],
        "num_key_value_heads": heads["attn_k"],
        "rms_norm_eps": field(f"{architecture}.attention.layer_norm_rms_epsilon"),
        "rope_theta": 10000.0,
    }
    (folder / "config.json").write_text(json.dumps(config))
    tokens = field("tokenizer.ggml.tokens")
    assert isinstance(tokens, list)
    vocabulary = {token: id for id, token in enumerate(tokens)}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
    return folder


def _write_tensors(folder: Path, tensors: dict[str, torch.Tensor], shards: int) -> None:
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names = sorted(tensors)
    places = {}
    for number in range(shards):
        part = names[number::shards]
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        places |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
