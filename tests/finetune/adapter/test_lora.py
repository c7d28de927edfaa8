from __future__ import annotations

import pytest

from openchat_local.finetune.adapter.layers import layer_targets


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("attn_q,attn_v", ("attn_q", "attn_v")),
        (" q_proj, v_proj ,", ("attn_q", "attn_v")),
        ("o_proj,gate_proj,down_proj", ("attn_output", "ffn_gate", "ffn_down")),
        ("q_proj,attn_q", ("attn_q",)),
        ("lm_head", ("lm_head",)),  # told by whoever knows what can be adapted
        (",", ()),
    ],
)
def test_layers_are_named_as_gguf_or_hugging_face_does(text: str, targets: tuple[str, ...]) -> None:
    assert layer_targets(text) == targets
