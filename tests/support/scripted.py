"""A model whose weights say one thing: whatever it is asked, it writes the same pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np

from support.openchat_gguf import Kind, TinyVocabulary, add_vocabulary, byte_vocabulary

ASK = "<|bot|>"
THINKS = (
    "{% for m in messages %}{% set c = m.content %}{% if m.role == 'assistant' %}"
    "{% set c = c.split('</think>')[-1].lstrip() %}{% endif %}"
    "<|{{ {'assistant': 'bot'}.get(m.role, m.role) }}|>{{ c }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|bot|>{% endif %}"
)
"""Leaves out what earlier replies thought."""
OPENS = THINKS.replace("<|bot|>{% endif %}", "<|bot|><think>\n{% endif %}")
"""Opens the thoughts itself."""
SWITCHES = THINKS.replace(
    "<|bot|>{% endif %}",
    "<|bot|>{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
)
"""Can be asked for a reply without."""


def scripted_vocabulary(pieces: Sequence[str]) -> TinyVocabulary:
    """The bytes, a template's marks, and each of the pieces, all different, as one token."""
    marks: dict[str, Kind] = {f"<|{name}|>": "control" for name in ("user", "system", "bot")}
    marks |= {"<think>": "user_defined", "</think>": "user_defined"}
    # What is user-defined is found whole in a text, also without a way to it by merges.
    said: dict[str, Kind] = dict.fromkeys(pieces, "user_defined")
    return replace(byte_vocabulary(), add_space_prefix=False).with_tokens({**said, **marks})


def write_scripted(
    path: Path,
    pieces: Sequence[str],
    chat_template: str = THINKS,
    *,
    after: str = ASK,
    otherwise: Sequence[str] = (),
    otherwise_after: str = "\n",
    blocks: int = 1,
    name: str = "thinker",
) -> Path:
    """A model that writes `pieces`, a token each, behind the token `after`, and then ends its
    reply; `otherwise` behind `otherwise_after`. `blocks` do nothing but take their time.

    A token's hidden state is its own axis, and the output has each token on the axis of the one
    that it follows.
    """
    chains = [(after, list(pieces)), (otherwise_after, list(otherwise))]
    vocabulary = scripted_vocabulary([*pieces, *otherwise])
    tokens = vocabulary.tokens
    number = {token: id for id, token in enumerate(tokens)} | {"\n": tokens.index("<0x0A>")}
    width = -(-len(tokens) // 32) * 32
    embedding = np.zeros((len(tokens), width), np.float32)
    embedding[range(len(tokens)), range(len(tokens))] = 1.0
    output = np.zeros_like(embedding)
    for start, chain in chains:
        for before, following in zip([start, *chain], [*chain, "</s>"], strict=True):
            if chain:
                output[number[following], number[before]] = 10.0

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_context_length(8192)
    writer.add_block_count(blocks)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(32)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width)
    writer.add_vocab_size(len(tokens))
    add_vocabulary(writer, vocabulary)
    writer.add_chat_template(chat_template)
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output.weight", output)
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    for block in range(blocks):
        prefix = f"blk.{block}."
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{prefix}{norm}.weight", np.ones(width, np.float32))
        for square in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"{prefix}{square}.weight", np.zeros((width, width), np.float16))
        for wide, (rows, columns) in {
            "ffn_gate": (32, width), "ffn_up": (32, width), "ffn_down": (width, 32)
        }.items():  # fmt: skip
            writer.add_tensor(f"{prefix}{wide}.weight", np.zeros((rows, columns), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
