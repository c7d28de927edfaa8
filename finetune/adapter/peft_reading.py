"""Adapters that `peft` wrote, as this program's own: GGUF's names, row order and one scale."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openchat_local.finetune.adapter.lora import LoraConfig, LoraPair
from openchat_local.finetune.adapter.peft import from_hugging_face_rows
from openchat_local.finetune.architectures import ARCHITECTURES
from openchat_local.models.errors import AdapterError
from openchat_local.models.gguf import GGUFFile

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
# "default" is the adapter's name, which peft leaves out of files and other programs do not.
_TENSOR = re.compile(
    r"(?:base_model\.model\.)?(?:model\.layers\.(\d+)\.([\w.]+?)|(lm_head))"
    r"\.lora_([AB])(?:\.default)?\.weight"
)
# What changes the arithmetic, and what it has to be for a plain LoRA.
_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "use_dora": (False, None),
    "fan_in_fan_out": (False, None),
    "modules_to_save": ([], None),
    "lora_bias": (False, None),
    "trainable_token_indices": ([], {}, None),
}


def told_base(folder: Path) -> str | None:
    """The OWNER/REPOSITORY that the adapter in `folder` names as its base model; None for a
    folder of whoever trained it, and for nothing. Raises AdapterError."""
    name = _config(folder).get("base_model_name_or_path")
    hub = isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name, re.ASCII)
    return str(name) if hub and not Path(str(name)).exists() else None


def read_peft(folder: Path, base: GGUFFile) -> tuple[dict[str, LoraPair], LoraConfig]:
    """The pairs of the adapter in `folder` by GGUF's names ("blk.0.attn_q"), in GGUF's row order,
    for the model in `base`; of the config `rank`, `alpha` and `targets` mean something.

    Ranks and scales of single layers (rank_pattern, alpha_pattern) are in the pairs. Raises
    AdapterError for what is not a plain LoRA of an architecture that is known.
    """
    config = _config(folder)
    architecture = ARCHITECTURES.get(base.architecture)
    if architecture is None:
        raise AdapterError(
            f"{folder} cannot be imported for {base.path.name}: PEFT adapters are read for the "
            f"architectures {', '.join(map(repr, ARCHITECTURES))}, and this is "
            f"{base.architecture!r}."
        )
    names = {module: layer for layer, module in architecture.modules.items()}
    halves: dict[str, dict[str, np.ndarray]] = {}
    modules: dict[str, str] = {}
    for name, values in _tensors(folder).items():
        layer, module, half = _layer(folder, name, names)
        halves.setdefault(layer, {})[half] = values
        modules[layer] = module
    heads = architecture.interleaved_heads(base)
    scales = _Scales(config)
    pairs = {}
    for layer, both in halves.items():
        if both.keys() != {"A", "B"} or both["A"].shape[0] != both["B"].shape[1]:
            raise AdapterError(f"{folder} has no whole pair for {modules[layer]}: export it again.")
        a, b = both["A"], both["B"]
        kind = layer.rpartition(".")[2]
        if kind in heads:
            if b.shape[0] % (2 * heads[kind]):
                raise AdapterError(
                    f"{folder} changes {modules[layer]} by {b.shape[0]} rows, which are no "
                    f"{heads[kind]} heads of {base.path.name}: name its own base with --model."
                )
            b = from_hugging_face_rows(b, heads[kind])
        factor = scales.of(modules[layer], len(a)) / (scales.alpha / len(a))
        pairs[layer] = LoraPair(a, b * np.float32(factor))
    if not pairs:
        raise AdapterError(f"{folder} changes no layer at all: export the adapter again.")
    targets = tuple(dict.fromkeys(layer.rpartition(".")[2] for layer in pairs))
    return pairs, LoraConfig(rank=scales.rank, alpha=scales.alpha, targets=targets)


@dataclass(frozen=True, slots=True)
class _Scales:
    """The factor before B·A, by module. A GGUF file has one alpha and multiplies by alpha / rank,
    so that what differs from that goes into B."""

    config: Mapping[str, Any]

    @property
    def rank(self) -> int:
        return int(self.config["r"])

    @property
    def alpha(self) -> float:
        """That of the file: rsLoRA's is larger."""
        return self._scale(float(self.config["lora_alpha"]), self.rank) * self.rank

    def of(self, module: str, rank: int) -> float:
        patterns = self.config.get("alpha_pattern") or {}
        matching = (float(alpha) for key, alpha in patterns.items() if _matches(key, module))
        return self._scale(next(matching, float(self.config["lora_alpha"])), rank)

    def _scale(self, alpha: float, rank: int) -> float:
        return alpha / math.sqrt(rank) if self.config.get("use_rslora") else alpha / rank


def _matches(key: str, module: str) -> bool:
    """As peft's `get_pattern_key`: the key ends the module's name, or is all of it after a ^."""
    if key.startswith("^"):
        return key[1:] == module
    return module == key or module.endswith(f".{key}")


def _config(folder: Path) -> Mapping[str, Any]:
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text("utf-8"))
        rank, alpha = config["r"], config["lora_alpha"]
        usable = type(rank) is int and rank > 0 and math.isfinite(alpha) and alpha > 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(
            f"{path} is not the configuration of a LoRA adapter ({type(error).__name__}: {error}): "
            "name a folder that peft has saved."
        ) from error
    if not usable:
        raise AdapterError(f"{path} has r = {rank!r} and lora_alpha = {alpha!r}: correct it.")
    for key, plain in _PLAIN.items():
        if key in config and config[key] not in plain:
            raise AdapterError(
                f"{path} has {key} = {config[key]!r}: only plain LoRA can be used (no DoRA, no "
                "biases, no changed embeddings or norms)."
            )
    for key in config.get("alpha_pattern") or {}:
        if not re.fullmatch(r"\^?[\w.]+", key):  # peft takes it for a regular expression
            raise AdapterError(
                f"{path} has the pattern {key!r} in alpha_pattern: only names of layers can be "
                "used there."
            )
    found: Mapping[str, Any] = config
    return found


def _layer(folder: Path, name: str, names: Mapping[str, str]) -> tuple[str, str, str]:
    """GGUF's name of a layer, Hugging Face's, and which half of the pair the tensor is."""
    match = _TENSOR.fullmatch(name)
    if match is not None and match[3]:
        return "output", "lm_head", match[4]
    if match is None or match[2] not in names:
        raise AdapterError(
            f"{folder} changes {name!r}, which no adapter can here: train one of the linear "
            "layers of the blocks and the head."
        )
    return (
        f"blk.{int(match[1])}.{names[match[2]]}",
        f"model.layers.{match[1]}.{match[2]}",
        match[4],
    )


def _tensors(folder: Path) -> dict[str, np.ndarray]:
    """Its matrices as float32."""
    path = folder / TENSORS
    if not path.is_file():
        pickled = " (adapter_model.bin can run code, and is not read)"
        raise AdapterError(
            f"There is no {path}{pickled * (folder / 'adapter_model.bin').is_file()}: save the "
            "adapter as safetensors."
        )
    try:
        import safetensors
    except ImportError:
        raise AdapterError(
            "Reading PEFT files needs the package safetensors: pip install safetensors."
        ) from None
    try:
        stored = safetensors.deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except (OSError, safetensors.SafetensorError) as error:
        raise AdapterError(f"{path} cannot be read ({error}): save the adapter again.") from error
    return {name: _matrix(path, name, tensor) for name, tensor in stored}


def _matrix(path: Path, name: str, tensor: Mapping[str, Any]) -> np.ndarray:
    data, shape = bytes(tensor["data"]), tuple(tensor["shape"])
    match tensor["dtype"]:
        case "F32":
            values = np.frombuffer(data, "<f4").astype(np.float32)
        case "F16":
            values = np.frombuffer(data, "<f2").astype(np.float32)
        case "BF16":
            values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        case other:
            raise AdapterError(f"{path} has {name!r} in {other}: save the adapter in float32.")
    if len(shape) != 2 or not np.isfinite(values).all():
        raise AdapterError(f"{path} has no matrix of finite numbers in {name!r}: save it again.")
    return values.reshape(shape)
