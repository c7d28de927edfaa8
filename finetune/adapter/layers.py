"""What people call the layers that get an adapter."""

from __future__ import annotations

from openchat_local.finetune.architectures import ARCHITECTURES

# A llama's; `Architecture.layers_of` knows what they are elsewhere.
ATTENTION_TARGETS = ("attn_q", "attn_k", "attn_v", "attn_output")
MLP_TARGETS = ("ffn_gate", "ffn_up", "ffn_down")


def layer_targets(text: str) -> tuple[str, ...]:
    """The layers that a person lists with commas, under GGUF's names; Hugging Face's are
    known as well. Each once."""
    known = {
        module.rpartition(".")[2]: name
        for architecture in ARCHITECTURES.values()
        for name, module in architecture.modules.items()
    }
    names = [name for part in text.split(",") if (name := part.strip())]
    return tuple(dict.fromkeys(known.get(name.lower(), name) for name in names))
