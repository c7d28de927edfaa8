"""Tiny models with real vocabularies: random weights that llama.cpp loads and runs.

`write_model` writes any of the vocabularies below; `openchat_vocabulary` is OpenChat
3.5's own, that is Mistral 7B v0.1's SentencePiece model and two added tokens.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np

from openchat_local.models.gguf import read_gguf

Kind = Literal["normal", "unknown", "control", "user_defined", "unused", "byte"]
_TYPES: dict[Kind, gguf.TokenType] = {
    "normal": gguf.TokenType.NORMAL,
    "unknown": gguf.TokenType.UNKNOWN,
    "control": gguf.TokenType.CONTROL,
    "user_defined": gguf.TokenType.USER_DEFINED,
    "unused": gguf.TokenType.UNUSED,
    "byte": gguf.TokenType.BYTE,
}


@dataclass(frozen=True)
class TinyVocabulary:
    """What `tokenizer.ggml.*` holds. `scores` for SentencePiece, `merges` for BPE."""

    model: Literal["llama", "gpt2"]
    tokens: list[str]
    kinds: list[Kind]
    bos: int
    eos: int
    add_bos: bool
    scores: list[float] | None = None
    merges: list[str] | None = None
    pre: str = "default"
    add_space_prefix: bool | None = None

    def with_tokens(self, added: dict[str, Kind], **changes: Any) -> TinyVocabulary:
        """The vocabulary with `added` at its end, or retyped where it has such a token
        (llama.cpp aborts on duplicates); `bos` and `eos` may be given as text."""
        kinds = dict(zip(self.tokens, self.kinds, strict=True)) | added
        tokens = list(kinds)
        for name in ("bos", "eos"):
            if isinstance(changes.get(name), str):
                changes[name] = tokens.index(changes[name])
        fields = self.__dict__ | {"tokens": tokens, "kinds": list(kinds.values())}
        if self.scores is not None:
            fields["scores"] = [*self.scores, *[-1000.0] * (len(tokens) - len(self.tokens))]
        return TinyVocabulary(**fields | changes)


def byte_vocabulary() -> TinyVocabulary:
    """Little more than the 256 bytes: what a model does with it costs next to nothing."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", "a"]
    kinds: list[Kind] = ["unknown", "control", "control", *["byte"] * 256, "normal", "normal"]  # type: ignore[list-item]
    scores = [0.0] * len(tokens)
    return TinyVocabulary("llama", tokens, kinds, bos=1, eos=2, add_bos=True, scores=scores)


def mistral_vocabulary() -> TinyVocabulary:
    """Mistral 7B v0.1's 32,000 SentencePiece tokens, from the package `mistral-common`."""
    import sentencepiece

    spec = importlib.util.find_spec("mistral_common")
    assert spec is not None, "the `dev` extra is not installed"
    assert spec.origin is not None
    file = Path(spec.origin).parent / "data" / "tokenizer.model.v1"
    model = sentencepiece.SentencePieceProcessor(model_file=str(file))
    ids = range(model.get_piece_size())
    return TinyVocabulary(
        model="llama",
        tokens=[model.id_to_piece(id) for id in ids],
        kinds=[_sentencepiece_kind(model, id) for id in ids],
        scores=[model.get_score(id) for id in ids],
        bos=1,
        eos=2,
        add_bos=True,
    )


def _sentencepiece_kind(model: Any, id: int) -> Kind:
    if model.is_unknown(id):
        return "unknown"
    if model.is_control(id):
        return "control"
    return "byte" if model.is_byte(id) else "normal"


def openchat_vocabulary(end_of_turn: Kind = "control") -> TinyVocabulary:
    """OpenChat 3.5's 32,002 tokens; many files of 2023 type the added two "user_defined"."""
    added: dict[str, Kind] = {"<|end_of_turn|>": end_of_turn, "<|pad_0|>": end_of_turn}
    return mistral_vocabulary().with_tokens(added, eos="<|end_of_turn|>")


def starter_vocabulary(starter: Path) -> TinyVocabulary:
    """The byte-level BPE of the GGUF file `starter`, its special tokens included."""
    metadata = read_gguf(starter).metadata
    kinds: dict[int, Kind] = {int(number): kind for kind, number in _TYPES.items()}
    return TinyVocabulary(
        model="gpt2",
        tokens=list(metadata["tokenizer.ggml.tokens"]),
        kinds=[kinds[number] for number in metadata["tokenizer.ggml.token_type"]],
        merges=list(metadata["tokenizer.ggml.merges"]),
        pre="smollm",
        bos=1,
        eos=2,
        add_bos=False,
    )


def llama_3_vocabulary(starter: Path) -> TinyVocabulary:
    """Llama 3's special tokens and pre-tokenizer over the starter's byte-level BPE."""
    names = ("begin_of_text", "end_of_text", "reserved_special_token_0", "reserved_special_token_1",
             "start_header_id", "end_header_id", "reserved_special_token_2", "eot_id")  # fmt: skip
    plain = starter_vocabulary(starter)
    dropped = {"<|im_start|>": "<|was_start|>", "<|im_end|>": "<|was_end|>"}
    renamed = TinyVocabulary(
        **plain.__dict__ | {"tokens": [dropped.get(token, token) for token in plain.tokens]}
    )
    return renamed.with_tokens(
        {f"<|{name}|>": "control" for name in names},
        pre="llama-bpe",
        bos="<|begin_of_text|>",
        eos="<|end_of_text|>",
        add_bos=True,
    )


def gemma_vocabulary() -> TinyVocabulary:
    """Gemma's special tokens and its user-defined white space and HTML over SentencePiece."""
    added: dict[str, Kind] = {
        "<bos>": "control",
        "<eos>": "control",
        "<start_of_turn>": "control",
        "<end_of_turn>": "control",
        "\n\n": "user_defined",
        "\n\n\n": "user_defined",
        "\u2581\u2581\u2581\u2581": "user_defined",
        "     ": "user_defined",
        "<table>": "user_defined",
        "[toxicity=0]": "user_defined",
        "<unused0>": "unused",
    }
    return mistral_vocabulary().with_tokens(added, bos="<bos>", eos="<eos>", add_space_prefix=False)


def chatml_mistral_vocabulary() -> TinyVocabulary:
    """ChatML over SentencePiece, as OpenHermes has it: the start of a turn is user-defined."""
    added: dict[str, Kind] = {"<|im_end|>": "control", "<|im_start|>": "user_defined"}
    return mistral_vocabulary().with_tokens(added, eos="<|im_end|>")


def deepseek_vocabulary(starter: Path) -> TinyVocabulary:
    """deepseek's user-defined letters, signs, placeholders and role headers over byte-level BPE."""
    added: dict[str, Kind] = dict.fromkeys("öüõøÁÀ÷", "user_defined")
    added |= {
        "<｜User｜>": "user_defined",
        "[PAD7]": "user_defined",
        "]~b]": "user_defined",
        "Grüße": "user_defined",
        "==": "user_defined",
        "Human:": "user_defined",
    }
    return starter_vocabulary(starter).with_tokens(added)


def channels_vocabulary(starter: Path) -> TinyVocabulary:
    """The marks of a model that thinks in one channel and answers in another."""
    names = ("start", "end", "return", "call", "channel", "message", "constrain", "endofprompt")
    plain = starter_vocabulary(starter)
    dropped = {"<|im_start|>": "<|was_start|>", "<|im_end|>": "<|was_end|>"}
    dropped["<|endoftext|>"] = "<|was_text|>"
    tokens = [dropped.get(token, token) for token in plain.tokens]
    renamed = TinyVocabulary(**plain.__dict__ | {"tokens": tokens})
    added: dict[str, Kind] = {f"<|{name}|>": "control" for name in names}
    return renamed.with_tokens(added, bos="<|start|>", eos="<|return|>")


def write_model(
    path: Path,
    vocabulary: TinyVocabulary,
    *,
    name: str = "tiny",
    chat_template: str | None = None,
    context: int = 8192,
    blocks: int = 2,
    embedding: int = 256,
    heads: int = 4,
    kv_heads: int = 2,
    feed_forward: int = 512,
    weights: bool = True,
    architecture: str = "llama",
    extra: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
    tensors_in_a_part: int = 0,
    precision: type[np.floating[Any]] = np.float16,
) -> Path:
    """Write a Llama-shaped model with random weights, the same ones for the same `seed`; in
    float32 if `precision` says so, for what is to be alike however many rows are decoded.

    Without `weights` the file holds a vocabulary only, as llama.cpp's `vocab_only` reads.
    `extra` are more tensors, such as "output.weight" (the output is otherwise tied to the
    embedding) or "rope_freqs.weight". With `tensors_in_a_part` the model is in several files,
    of which the first comes back.
    """
    writer = gguf.GGUFWriter(path, architecture, split_max_tensors=tensors_in_a_part)
    writer.add_name(name)
    writer.add_context_length(context)
    writer.add_block_count(blocks)
    writer.add_embedding_length(embedding)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(embedding // heads)
    writer.add_vocab_size(len(vocabulary.tokens))
    add_vocabulary(writer, vocabulary)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    if weights:
        kv_width = embedding // heads * kv_heads
        random = np.random.default_rng(seed)
        sizes = len(vocabulary.tokens), blocks, embedding, kv_width, feed_forward
        _add_weights(writer, random, *sizes, precision)
    for tensor, values in (extra or {}).items():
        writer.add_tensor(tensor, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path if not tensors_in_a_part else min(path.parent.glob(f"{path.stem}-00001-of-*.gguf"))


def add_vocabulary(writer: gguf.GGUFWriter, vocabulary: TinyVocabulary) -> None:
    """Write a vocabulary into a model's metadata."""
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types([_TYPES[kind] for kind in vocabulary.kinds])
    if vocabulary.scores is not None:
        writer.add_token_scores(vocabulary.scores)
    if vocabulary.merges is not None:
        writer.add_token_merges(vocabulary.merges)
    writer.add_bos_token_id(vocabulary.bos)
    writer.add_eos_token_id(vocabulary.eos)
    writer.add_add_bos_token(vocabulary.add_bos)
    if vocabulary.add_space_prefix is not None:
        writer.add_add_space_prefix(vocabulary.add_space_prefix)


def _add_weights(
    writer: gguf.GGUFWriter,
    random: np.random.Generator,
    n_tokens: int,
    blocks: int,
    width: int,
    kv_width: int,
    hidden: int,
    precision: type[np.floating[Any]],
) -> None:

    def matrix(name: str, rows: int, columns: int) -> None:
        values = random.standard_normal((rows, columns), dtype=np.float32) / np.sqrt(columns)
        writer.add_tensor(name, values.astype(precision))

    def norm(name: str) -> None:
        writer.add_tensor(name, np.ones(width, dtype=np.float32))

    matrix("token_embd.weight", n_tokens, width)
    norm("output_norm.weight")
    for block in range(blocks):
        prefix = f"blk.{block}."
        norm(prefix + "attn_norm.weight")
        matrix(prefix + "attn_q.weight", width, width)
        matrix(prefix + "attn_k.weight", kv_width, width)
        matrix(prefix + "attn_v.weight", kv_width, width)
        matrix(prefix + "attn_output.weight", width, width)
        norm(prefix + "ffn_norm.weight")
        matrix(prefix + "ffn_gate.weight", hidden, width)
        matrix(prefix + "ffn_up.weight", hidden, width)
        matrix(prefix + "ffn_down.weight", width, hidden)
