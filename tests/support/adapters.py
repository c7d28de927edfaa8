"""Adapters of random numbers, and models merged with them by another way than ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import gguf
import numpy as np

from openchat_local.finetune.adapter import write_gguf
from openchat_local.finetune.adapter.layers import ATTENTION_TARGETS, MLP_TARGETS
from openchat_local.finetune.adapter.lora import LoraConfig, LoraPair, LoraWeights
from openchat_local.finetune.architectures import architecture_of
from openchat_local.models.engine.decoding.llamacpp import Adapter, Context, Model, Rows
from openchat_local.models.gguf import read_gguf
from openchat_local.models.library.adapter_file import AdapterCard, TrainedClass


def random_lora(base: Path, config: LoraConfig, seed: int, size: float = 0.02) -> LoraWeights:
    """An adapter for every layer of `config.targets`; `size` is the spread of its numbers."""
    random = np.random.default_rng(seed)
    weights = {}
    file = read_gguf(base)
    targets = architecture_of(file).layers_of(config.targets)
    for tensor in file.tensors:
        name = tensor.name.removesuffix(".weight")
        if name.rpartition(".")[2] in targets:
            inputs, outputs = tensor.shape
            a = random.standard_normal((config.rank, inputs), dtype=np.float32) * size
            b = random.standard_normal((outputs, config.rank), dtype=np.float32) * size
            weights[name] = LoraPair(a, b)
    return weights


def expert_card(base: Path, condition: str = "Expert") -> AdapterCard:
    """A card of two classes, the better one under `condition`."""
    file = read_gguf(base)
    return AdapterCard(
        classes=(TrainedClass("gpt35", "GPT3", 0.1), TrainedClass("gpt4", condition, 1.0)),
        template="chatml",
        base_name="starter",
        base_fingerprint=file.fingerprint,
        data_hash="d" * 64,
    )


def write_random_adapter(
    path: Path,
    base: Path,
    seed: int = 1,
    *,
    size: float = 0.03,
    rank: int = 4,
    targets: Sequence[str] = ATTENTION_TARGETS + MLP_TARGETS,
    card: AdapterCard | None = None,
) -> Path:
    """A random adapter for `base` as a GGUF file."""
    config = LoraConfig(rank=rank, alpha=2.0 * rank, targets=tuple(targets))
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = random_lora(base, config, seed, size)
    write_gguf(path, weights, config, read_gguf(base), card or expert_card(base))
    return path


def write_f32(source: Path, target: Path, changes: Mapping[str, np.ndarray] | None = None) -> Path:
    """A copy of a model as float32 with `changes` added to its tensors, by `gguf`'s own
    reader and writer."""
    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, inner)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        change = (changes or {}).get(tensor.name)
        writer.add_tensor(tensor.name, values if change is None else values + change)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def deltas(weights: LoraWeights, config: LoraConfig) -> dict[str, np.ndarray]:
    """scale · B·A by tensor name."""
    return {f"{name}.weight": config.scale * pair.b @ pair.a for name, pair in weights.items()}


class Logits:
    """A model's own logits, from llama.cpp in this process."""

    def __init__(self, path: Path) -> None:
        self.model = Model(read_gguf(path))
        self.context = Context(self.model, size=256, threads=1, batch_threads=1)

    def __call__(
        self, ids: Sequence[int], adapter: Path | None = None, scale: float = 1.0
    ) -> np.ndarray:
        """(tokens, vocabulary) float32: what follows each of `ids`."""
        import llama_cpp.llama_cpp as llama

        loaded = None if adapter is None else Adapter(self.model, adapter)
        self.context.set_adapter(loaded, scale)
        self.context.clear()
        rows = []
        for position, id in enumerate(ids):
            self.context.decode([Rows(0, position, (id,))])
            pointer = llama.llama_get_logits_ith(self.context.pointer, -1)
            rows.append(np.ctypeslib.as_array(pointer, (self.model.vocabulary.n_tokens,)).copy())
        if loaded is not None:
            self.context.set_adapter(None)
            loaded.close()
        return np.stack(rows)

    def close(self) -> None:
        self.context.close()
        self.model.close()
