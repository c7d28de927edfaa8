"""What a GGUF file holds that is no chat model: said before llama.cpp, which aborts over some."""

from __future__ import annotations

from openchat_local.models.errors import ModelFileError
from openchat_local.models.gguf import GGUFFile

_EMBEDDING = frozenset({
    "bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2",
    "jina-bert-v3", "eurobert", "gemma-embedding", "llama-embed", "t5encoder",
})  # fmt: skip
_TRANSLATING = frozenset({"t5"})
_OTHERS = {
    "clip": "the picture encoder of a model",
    "wavtokenizer-dec": "a part of a speech model",
}
_KINDS = {
    "adapter": "an adapter: use it with --adapter, beside its model",
    "mmproj": "the picture encoder of a model, which lies in a file of its own",
    "imatrix": "an importance matrix, which quantising needs",
}
_RANK = 4  # of llama.cpp's pooling types; 0 is none


def check_can_chat(file: GGUFFile) -> None:
    """Raise ModelFileError, which says what it is, unless `file` holds a model that writes text."""
    kind = file.metadata.get("general.type", "model")
    what = _KINDS.get(kind) if isinstance(kind, str) else None
    if what is not None:
        raise ModelFileError(f"{file.path} is {what}: name a model that chats.")
    architecture = file.architecture
    pooling = file.metadata.get(f"{architecture}.pooling_type", 0)
    causal = file.metadata.get(f"{architecture}.attention.causal", True)
    if pooling == _RANK:
        what = "a reranking model, which compares texts and writes none"
    elif architecture in _EMBEDDING or pooling not in (0, -1) or causal is False:
        what = "an embedding model, which turns text into numbers and writes none"
    elif architecture in _TRANSLATING:
        what = "an encoder-decoder model (T5), which turns one text into another and cannot chat"
    else:
        what = _OTHERS.get(architecture)
    if what is not None:
        raise ModelFileError(f"{file.path} is {what}: choose a model made for chat.")
