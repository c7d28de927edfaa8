"""A Hugging Face folder of the model in a GGUF file, as weights to train on.

Tensors get GGUF's names and row order, so that every backend reads them as it reads a GGUF
file. The GGUF file stays what chat runs and what the sizes are taken from; the folder is held
to it. Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from openchat_local.finetune.adapter.peft import from_hugging_face_rows
from openchat_local.finetune.architectures import Architecture, architecture_of
from openchat_local.finetune.backends.model_file import GGUFWeights, Weights, dequantised
from openchat_local.models.errors import ModelFileError
from openchat_local.models.gguf import GGUFFile, Tensor
from openchat_local.models.system.installing import install_command

_OUTER = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_IN_BLOCK = re.compile(r"model\.layers\.(\d+)\.([\w.]+)\.(weight|bias)")
_MOST_HEADER_BYTES = 100 * 2**20
# Two bits a weight keep 0.95 of a matrix's direction; another model has nothing of it.
_SAME_MODEL = 0.8
_COMPARED_ROWS = 64


@dataclass(frozen=True, slots=True)
class _Stored:
    """Where a tensor lies: `tensor.offset` counts in `file`."""

    file: Path
    tensor: Tensor


class HuggingFaceWeights(Weights):
    """The safetensors files of a folder."""

    norms_shifted = False

    def __init__(self, folder: Path, base: GGUFFile) -> None:
        """Raises ModelFileError unless the folder holds the model that is in `base`: the same
        sizes, vocabulary and, but for its quantisation, weights."""
        self.folder, self._base = folder, base
        architecture = architecture_of(base)
        self.description = f"the folder {folder}"
        self._heads = architecture.interleaved_heads(base)
        _check_config(folder, base, architecture)
        _check_vocabulary(folder, base)
        self._stored = {
            stored.tensor.name: stored
            for file in _files(folder)
            for stored in _tensors(file, architecture)
        }
        self._gguf = GGUFWeights(base)
        self.tensors: Sequence[Tensor] = [stored.tensor for stored in self._stored.values()]
        # Stretched rotations, which Hugging Face computes from its configuration.
        tables = architecture.rotation_tables
        self.tensors += [tensor for tensor in base.tensors if tensor.name in tables]
        self._check_likeness()

    def rows(self, tensor: Tensor) -> np.ndarray:
        if tensor.name not in self._stored:
            return self._gguf.rows(tensor)
        stored = self._stored[tensor.name]
        raw = _mapped(stored.file)[tensor.offset : tensor.offset + tensor.byte_size]
        rows = raw.reshape(-1, tensor.byte_size * tensor.shape[0] // _size(tensor))
        layer = tensor.name.split(".")[-2]
        if layer in self._heads:
            rows = from_hugging_face_rows(rows, self._heads[layer])
        return rows

    def _check_likeness(self) -> None:
        last = self._base.block_count - 1
        first = next(iter(architecture_of(self._base).linears))
        for name in (f"blk.0.{first}.weight", f"blk.{last}.ffn_down.weight"):
            pairs = [[t for t in held.tensors if t.name == name] for held in (self, self._gguf)]
            if not all(pairs) or pairs[0][0].shape != pairs[1][0].shape:
                continue  # reading says what is wrong
            ours, theirs = (
                dequantised(held.rows(found[0])[:_COMPARED_ROWS], found[0].type).ravel()
                for held, found in zip((self, self._gguf), pairs, strict=True)
            )
            likeness = ours @ theirs / (np.linalg.norm(ours) * np.linalg.norm(theirs) or 1.0)
            if likeness < _SAME_MODEL:
                raise ModelFileError(
                    f"{self.folder} holds another model than {self._base.path}: their {name} "
                    f"have {likeness:.2f} in common; name the folder that the GGUF file was "
                    "made from."
                )


def _size(tensor: Tensor) -> int:
    return int(np.prod(tensor.shape, dtype=np.int64))


@cache
def _mapped(file: Path) -> np.ndarray:
    return np.memmap(file, np.uint8, mode="r")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path} cannot be read as JSON ({error}).") from None
    if not isinstance(found, dict):
        raise ModelFileError(f"{path} is not a JSON object.")
    return found


def _files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(map(str, _read_json(index).get("weight_map", {}).values())))
        files = [folder / Path(name).name for name in names]
    else:
        files = [folder / "model.safetensors"]
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        raise ModelFileError(
            f"{folder} has no {missing[0] if missing else 'safetensors file'}: name a Hugging "
            "Face folder whose weights are safetensors files, all of them."
        )
    return files


def _tensors(file: Path, architecture: Architecture) -> Iterator[_Stored]:
    """The tensors of a file, by GGUF's names where the architecture has them."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > min(size, _MOST_HEADER_BYTES):
            raise ModelFileError(f"{file} is not a safetensors file, or is not whole.")
        text = opened.read(length)
    inner = {linear.module: name for name, linear in architecture.linears.items()}
    norms = {**architecture.norms, **architecture.head_norms}
    inner |= {module: name for name, module in norms.items()}
    try:
        header = json.loads(text)
        for name, entry in header.items():
            if name == "__metadata__" or name.endswith("rotary_emb.inv_freq"):
                continue
            start, end = entry["data_offsets"]
            shape = tuple(reversed([int(n) for n in entry["shape"]]))
            tensor = Tensor(
                _gguf_name(name, inner), shape, str(entry["dtype"]), 8 + length + start, end - start
            )
            width = {"F32": 4, "F16": 2, "BF16": 2}.get(tensor.type)
            if width is None:
                raise ModelFileError(
                    f"{file} has {name!r} in {tensor.type}, which is not trained on here: use "
                    "weights in F32, F16 or BF16."
                )
            if start < 0 or 8 + length + end > size or end - start != width * _size(tensor):
                raise ModelFileError(f"{file} is not whole: {name!r} lies outside of it.")
            yield _Stored(file, tensor)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ModelFileError(f"{file} is not a safetensors file, or is not whole.") from None


def _gguf_name(name: str, inner: Mapping[str, str]) -> str:
    match = _IN_BLOCK.fullmatch(name)
    if match and match[2] in inner:
        return f"blk.{match[1]}.{inner[match[2]]}.{match[3]}"
    return _OUTER.get(name, name)  # what the architecture has not is noticed when all is read


def _check_config(folder: Path, base: GGUFFile, architecture: Architecture) -> None:
    """Hold what no tensor's shape shows: heads, rotations and the norms' epsilon."""
    config = _read_json(folder / "config.json")
    rope = config.get("rope_parameters") or {}
    rope = rope.get("full_attention", rope)  # where blocks with a window have their own
    share = config.get("partial_rotary_factor", rope.get("partial_rotary_factor", 1.0))
    heads = config.get("num_attention_heads")
    known = (
        ("attention.head_count", heads),
        ("attention.head_count_kv", config.get("num_key_value_heads", heads)),
        ("attention.layer_norm_rms_epsilon", config.get("rms_norm_eps")),
        ("rope.freq_base", config.get("rope_theta", rope.get("rope_theta", 10000.0))),
        ("rope.dimension_count", int(base.key_length * share)),
    )
    fallbacks = {
        "attention.head_count_kv": base.head_count,
        "rope.dimension_count": base.key_length,
        "rope.freq_base": 10000.0,
    }
    types = (architecture.model_type, *architecture.other_types)
    if config.get("model_type") not in types:
        raise ModelFileError(
            f"{folder} holds a model of the type {config.get('model_type')!r}, and {base.path} "
            f"was made from one of the type {' or '.join(types)}: name that one's folder."
        )
    said = [
        (
            key,
            base.metadata.get(f"{base.architecture}.{key}", fallbacks.get(key, base.head_count)),
            theirs,
        )
        for key, theirs in known
    ]
    settings = architecture.settings(base)
    said += [(key, ours, config[key]) for key, ours in settings.items() if key in config]
    for key, ours, theirs in said:
        if not isinstance(theirs, int | float) or not np.isclose(float(ours), theirs, rtol=1e-4):
            raise ModelFileError(
                f"{folder} has {theirs} for {key}, and {base.path} has {ours}: name the folder "
                "that the GGUF file was made from."
            )


def _check_vocabulary(folder: Path, base: GGUFFile) -> None:
    ours = list(base.metadata.get("tokenizer.ggml.tokens", ()))
    for id, theirs in sorted(_vocabulary(folder).items()):
        mine = ours[id] if id < len(ours) else None
        # Converters write the spaces of added tokens either way.
        if mine is None or mine.replace("\u2581", " ") != theirs.replace("\u2581", " "):
            raise ModelFileError(
                f"{folder} has another vocabulary than {base.path}: token {id} is {theirs!r} in "
                f"the folder and {mine!r} in the file; name the folder that it was made from."
            )


def _vocabulary(folder: Path) -> dict[int, str]:
    """Its tokens by id, from tokenizer.json or else SentencePiece's tokenizer.model."""
    whole, pieces = folder / "tokenizer.json", folder / "tokenizer.model"
    if whole.is_file():
        return _fast_vocabulary(whole)
    if not pieces.is_file():
        raise ModelFileError(
            f"{folder} has neither tokenizer.json nor tokenizer.model, so its vocabulary cannot "
            "be held to the GGUF file's: put one of them there."
        )
    try:
        import sentencepiece
    except ImportError:
        raise ModelFileError(
            f"Reading {pieces} needs the package sentencepiece: {install_command('sentencepiece')}."
        ) from None
    try:
        model = sentencepiece.SentencePieceProcessor(model_file=str(pieces))
    except (OSError, RuntimeError) as error:
        raise ModelFileError(f"{pieces} cannot be read ({error}).") from None
    tokens = {id: model.id_to_piece(id) for id in range(model.get_piece_size())}
    added = folder / "added_tokens.json"
    return tokens | ({id: t for t, id in _read_json(added).items()} if added.is_file() else {})


def _fast_vocabulary(path: Path) -> dict[int, str]:
    try:
        found = _read_json(path)
        stored = found["model"]["vocab"]
        pairs = (
            stored.items()
            if isinstance(stored, dict)
            else ((t[0], i) for i, t in enumerate(stored))
        )
        tokens = {int(id): str(token) for token, id in pairs}
        return tokens | {int(t["id"]): str(t["content"]) for t in found.get("added_tokens", ())}
    except (KeyError, TypeError, ValueError, IndexError):
        raise ModelFileError(f"{path} is not a tokenizer of a kind known here.") from None
