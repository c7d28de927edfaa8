"""The layers of a llama block, by the names that GGUF and Hugging Face give them."""

from __future__ import annotations

ATTENTION_TARGETS = ("attn_q", "attn_k", "attn_v", "attn_output")
MLP_TARGETS = ("ffn_gate", "ffn_up", "ffn_down")
# GGUF's name, and the module within a block of Hugging Face's, whose names mlx-lm has too.
MODULES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}


def layer_targets(text: str) -> tuple[str, ...]:
    """The layers that a person lists with commas, under GGUF's names; Hugging Face's are
    known as well. Each once."""
    known = {module.rpartition(".")[2]: name for name, module in MODULES.items()}
    names = [name for part in text.split(",") if (name := part.strip())]
    return tuple(dict.fromkeys(known.get(name.lower(), name) for name in names))
