"""What a model file is, in words: for `models info` and the window."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from openchat_local.app.engine import vocabulary_engine
from openchat_local.models.errors import OpenChatError
from openchat_local.models.gguf import GGUFFile, read_gguf
from openchat_local.models.gguf.quantisation import quantisation_of
from openchat_local.models.library import InstalledModel, model_name
from openchat_local.models.units import size_in_words

_SPECIAL = ("bos", "eos", "eot", "unknown", "padding")
_TOKEN_KINDS = {3: "control", 4: "user-defined"}  # tokenizer.ggml.token_type
_MANY = 24


def model_facts(path: Path, installed: InstalledModel | None) -> dict[str, Any]:
    """Everything that the file at `path` and its card tell. Raises ModelFileError."""
    file = read_gguf(path)
    card = installed.card if installed and installed.path == path else None
    template, note, thinking = _template(file)
    return {
        "name": model_name(path),
        "title": file.name,
        "path": str(path),
        "parts": len(file.parts) or None,
        "bytes": file.file_size,
        "architecture": file.architecture,
        "parameters": sum(_count(tensor.shape) for tensor in file.tensors),
        "quantisation": card.quantisation if card else quantisation_of(file),
        "tensors": dict(Counter(tensor.type for tensor in file.tensors).most_common()),
        "context": file.context_length,
        "blocks": file.block_count,
        "width": file.embedding_length,
        "heads": file.head_count,
        "kv_heads": file.head_count_kv,
        "vocabulary": file.vocab_size,
        "template": template,
        "template_note": note,
        "thinking": thinking,
        "special_tokens": _special_tokens(file),
        "control_tokens": _tokens_of_kind(file),
        "licence": (card and card.licence) or file.metadata.get("general.license"),
        "fingerprint": file.fingerprint,
        "sha256": card and " ".join(part.sha256 for part in card.files),
        "verified": card and card.verified,
        "added": card and card.added,
        "origin": card and card.origin,
        "source": card and card.source,
        "revision": (card and card.revision) or None,
    }


def fact_lines(facts: dict[str, Any]) -> Iterator[str]:
    """The facts, one line each; what is not known is left out."""
    for key, value in facts.items():
        label = key.replace("_", " ")
        if value is None or value == {} or value == []:
            continue
        if key == "bytes":
            yield f"size: {size_in_words(value)} ({value:,} bytes)"
        elif key == "parameters":
            many, unit = (value / 1e9, "billion") if value >= 1e9 else (value / 1e6, "million")
            yield f"parameters: {many:.2f} {unit}"
        elif isinstance(value, dict):
            yield f"{label}: {', '.join(f'{name} {inner}' for name, inner in value.items())}"
        elif isinstance(value, list):
            more = f" and {len(value) - _MANY} more" if len(value) > _MANY else ""
            yield f"{label}: {' '.join(value[:_MANY])}{more}"
        elif isinstance(value, int):
            yield f"{label}: {value:,}"
        else:
            yield f"{label}: {value}"


def _template(file: GGUFFile) -> tuple[str | None, str | None, str | None]:
    """The family that chat would use, what there is to say about it, and how replies think."""
    with closing(vocabulary_engine(file.path)) as engine:
        try:
            model = engine.load()
        except OpenChatError as problem:
            return None, str(problem), None
    marks, can = model.thoughts, "can" if model.thinking_switch else "cannot"
    thinking = None if marks is None else f"{marks.opens} … {marks.closes}, {can} be switched"
    return model.template, model.template_note, thinking


def _special_tokens(file: GGUFFile) -> dict[str, str]:
    tokens = file.metadata.get("tokenizer.ggml.tokens", ())
    named = {}
    for name in _SPECIAL:
        id = file.metadata.get(f"tokenizer.ggml.{name}_token_id")
        if type(id) is int and 0 <= id < len(tokens):
            named[name] = f"{id} {tokens[id]}"
    return named


def _tokens_of_kind(file: GGUFFile) -> list[str]:
    """The control tokens; of older OpenChat files, the user-defined ones as well."""
    tokens = file.metadata.get("tokenizer.ggml.tokens", ())
    kinds = file.metadata.get("tokenizer.ggml.token_type", ())
    return [str(token) for token, kind in zip(tokens, kinds, strict=False) if kind in _TOKEN_KINDS]


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for dimension in shape:
        total *= dimension
    return total
