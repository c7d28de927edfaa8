"""A frozen model from a GGUF file with adapters, of transformers' classes.

Rows of a llama's q and k are put in Hugging Face's order as they are read, in which transformers
rotates: a quantised block lies within a row, so the bytes of rows are moved, not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from torch.nn.functional import dropout, linear
from torch.utils.checkpoint import checkpoint

from openchat_local.finetune.adapter.lora import LoraConfig, lora_shapes
from openchat_local.finetune.adapter.peft import to_hugging_face_rows
from openchat_local.finetune.backends.model_file import (
    DENSE_TYPES,
    TensorReader,
    Weights,
    dequantised,
)
from openchat_local.finetune.backends.shape import Rotation, Shape, read_shape
from openchat_local.finetune.backends.torch.attention import NAME, Spans
from openchat_local.finetune.backends.torch.device import Precision
from openchat_local.finetune.backends.torch.feed_forward import FeedForward
from openchat_local.finetune.backends.torch.nf4 import NF4Linear
from openchat_local.finetune.backends.torch.packed import (
    PACKED_TYPES,
    PackedEmbedding,
    PackedLinear,
)
from openchat_local.models.gguf import GGUFFile
from openchat_local.models.system.one_module import one_module

quants = one_module("gguf.quants")

# What transformers would hold against a small vocabulary, and nothing here asks for.
_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True, slots=True)
class Inputs:
    """`tokens` and `positions` (rows, columns) int64; `spans` as `attention.spans_of`."""

    tokens: Tensor
    positions: Tensor
    spans: Spans


class LoraLinear(nn.Module):
    """y = base(x) + scale · B·A·dropout(x); `base` is frozen.

    `a` (rank, inputs) and `b` (outputs, rank) are float32, and multiplied in the precision
    of x, as the base is.
    """

    def __init__(
        self, base: nn.Module, shape: tuple[int, int], config: LoraConfig, device: torch.device
    ) -> None:
        super().__init__()
        outputs, inputs = shape
        self.base, self.scale, self.dropout = base, config.scale, config.dropout
        self.a = nn.Parameter(torch.zeros(config.rank, inputs, device=device))
        self.b = nn.Parameter(torch.zeros(outputs, config.rank, device=device))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x)
        dropped = dropout(x, self.dropout, self.training)
        low = linear(dropped, self.a.to(x.dtype)).flatten(0, -2)
        high = self.b.to(x.dtype).T
        return torch.addmm(y.flatten(0, -2), low, high, alpha=self.scale).view_as(y)


class AdaptedModel:
    """The model in a GGUF file with room for an adapter; `layers` are its adapted layers by
    GGUF's names."""

    def __init__(
        self,
        base: GGUFFile,
        lora: LoraConfig,
        precision: Precision,
        device: torch.device,
        *,
        checkpointing: bool,
        weights: Weights | None = None,
    ) -> None:
        """`checkpointing` computes each block twice rather than keep what is inside it.

        Raises ModelFileError, LoraError, MemoryError.
        """
        self.shapes = lora_shapes(base, lora)
        self.checkpointing = checkpointing
        loader = _Loader(TensorReader(base, weights), precision, device)
        self.shape, self.heads = loader.shape, loader.heads
        self._model, self._head = loader.model(checkpointing=checkpointing)
        self._local_rope = Rope(self.shape.local_rotation, device)
        self.requantised = loader.requantised
        self.layers: dict[str, LoraLinear] = {}
        for name, shape in self.shapes.items():
            _, block, layer = name.split(".")
            path = f"layers.{block}.{self.shape.architecture.linears[layer].module}"
            adapted = LoraLinear(self._model.get_submodule(path), shape, lora, device)
            self._model.set_submodule(path, adapted)
            self.layers[name] = adapted

    def hidden(self, inputs: Inputs, *, training: bool = False) -> Tensor:
        """(rows, columns, width), ready for the output head."""
        self._model.train(training)
        states = self._model.embed_tokens(inputs.tokens) * self.shape.embedding_scale
        usual = self._model.rotary_emb(states, inputs.positions)
        local = self._local_rope(states, inputs.positions) if any(self.shape.windows) else usual
        for block, window in zip(self._model.layers, self.shape.windows, strict=True):
            run = _through(block, local if window else usual, inputs.spans, window)
            if self.checkpointing and training:
                states = checkpoint(run, states, use_reentrant=False)
            else:
                states = run(states)
        out: Tensor = self._model.norm(states)
        return out / self.shape.logit_divisor

    def head(self) -> Tensor:
        """The output layer, (vocabulary, width)."""
        held = self._head
        if isinstance(held, PackedEmbedding):
            return held.weight()
        weight: Tensor = held.get_parameter("weight")
        return weight


def _through(
    block: Any, rotations: tuple[Tensor, Tensor], spans: Spans, window: int
) -> Callable[[Tensor], Tensor]:
    def run(states: Tensor) -> Tensor:
        after: Tensor = block(
            states,
            attention_mask=None,
            position_embeddings=rotations,
            spans=spans,
            window=window,
        )
        return after

    return run


class Rope(nn.Module):
    """cos and sin for each position, of rotations that transformers would take from a name."""

    def __init__(self, rotation: Rotation, device: torch.device) -> None:
        super().__init__()
        speeds = torch.from_numpy((1 / rotation.periods).astype(np.float32)).to(device)
        self.speeds, self.scale = nn.Buffer(speeds, persistent=False), rotation.scale

    def forward(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        angles = positions[..., None].float() * self.speeds
        angles = torch.cat([angles, angles], -1)
        return (angles.cos() * self.scale).to(x.dtype), (angles.sin() * self.scale).to(x.dtype)


class _Biased(nn.Module):
    """A layer and what is added to its outputs."""

    def __init__(self, layer: nn.Module, bias: nn.Parameter) -> None:
        super().__init__()
        self.layer, self.bias = layer, bias

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y + self.bias


class _Loader:
    """Tensors of a file on a device, a piece at a time. `heads` are the layers whose rows are put
    in another order."""

    def __init__(self, reader: TensorReader, precision: Precision, device: torch.device) -> None:
        self.reader, self.precision, self.device = reader, precision, device
        self.shape: Shape = read_shape(reader)
        self.heads = self.shape.architecture.interleaved_heads(reader.file)
        self.requantised: set[str] = set()

    def model(self, *, checkpointing: bool) -> tuple[Any, nn.Module]:
        """The model without its output layer, and the output layer."""
        shape, table = self.shape, self.shape.architecture
        make_config = getattr(transformers, f"{table.classes}Config")
        config = make_config(**shape.config, use_cache=False, **dict.fromkeys(_TOKENS))
        with torch.device("meta"):
            model: Any = getattr(transformers, f"{table.classes}Model")(config)
        model.config._attn_implementation = NAME
        matrix = (shape.vocabulary, shape.width)
        model.embed_tokens = self._embedding("token_embd.weight", matrix)
        head = model.embed_tokens if shape.tied else self._embedding("output.weight", matrix)
        offset = self.reader.norm_offset
        model.norm.weight = self._vector("output_norm.weight", shape.width, offset)
        model.rotary_emb = Rope(shape.rotation, self.device)
        for index, block in enumerate(model.layers):
            block.mlp = FeedForward(
                checkpointing=checkpointing,
                fused="ffn_gate" in table.whole,
                activation=table.activation,
            )
            for name, (module, length) in shape.norms.items():
                weight = self._vector(f"blk.{index}.{name}.weight", length, offset)
                block.get_submodule(module).weight = weight
            for name, entry in table.linears.items():
                layer = self._linear(f"blk.{index}.{name}", name, biased=entry.bias)
                block.set_submodule(entry.module, layer)
        self.reader.all_taken()
        return model, head

    def _vector(self, name: str, length: int, offset: float = 0.0) -> nn.Parameter:
        values = _owned(self.reader.values(name, (length,))) - offset
        return _frozen(values.to(self.device, self.precision.torch_dtype))

    def _embedding(self, name: str, shape: tuple[int, int]) -> nn.Module:
        held = self._matrix(name, shape)
        if isinstance(held, tuple):
            return PackedEmbedding(*held, shape[1], self.precision.torch_dtype)
        dense = nn.Embedding(*shape, device="meta")
        dense.weight = _frozen(held)
        return dense

    def _linear(self, name: str, layer: str, *, biased: bool) -> nn.Module:
        outputs, inputs = self.shape.linears[layer]
        held = self._matrix(f"{name}.weight", (outputs, inputs), self.heads.get(layer))
        made: nn.Module
        if isinstance(held, tuple):
            made = PackedLinear(*held, inputs, self.precision.torch_dtype)
        elif self.precision.nf4:
            made = NF4Linear(held)
        else:
            made = nn.Linear(inputs, outputs, bias=False, device="meta")
            made.weight = _frozen(held)
        if biased and f"{name}.bias" in self.reader.left:
            return _Biased(made, self._vector(f"{name}.bias", outputs))
        return made

    def _matrix(
        self, name: str, shape: tuple[int, int], heads: int | None = None
    ) -> Tensor | tuple[Tensor, str]:
        """Dense, or (rows, bytes) and their type; with `heads`, in Hugging Face's order."""
        tensor = self.reader.take(name, shape)
        pieces, type = self.reader.pieces(tensor), tensor.type
        keeps = self.precision.quantised and not self.precision.nf4
        packs = keeps and type not in DENSE_TYPES
        if packs and type in PACKED_TYPES:
            whole = _joined((_owned(raw) for raw in pieces), shape[0], self.device)
        elif packs:  # code books: near enough in the finest type that has blocks of 32
            self.requantised.add(type)
            eight = (_as_q8_0(dequantised(raw, type)) for raw in pieces)
            whole, type = _joined(eight, shape[0], self.device), "Q8_0"
        else:
            dtype = self.precision.torch_dtype
            dense = (_owned(dequantised(raw, type)).to(dtype) for raw in pieces)
            whole = _joined(dense, shape[0], self.device)
        if heads is not None:
            order = to_hugging_face_rows(np.arange(shape[0])[:, None], heads)[:, 0]
            whole = whole[torch.from_numpy(order.copy()).to(self.device)]
        return (whole, type) if packs else whole


def _joined(pieces: Iterator[Tensor], rows: int, device: torch.device) -> Tensor:
    """One matrix of pieces, never held twice: an embedding may be a third of a model."""
    first = next(pieces)
    if len(first) == rows:
        return first.to(device)
    whole = torch.empty(rows, *first.shape[1:], dtype=first.dtype, device=device)
    start = 0
    for piece in chain([first], pieces):
        whole[start : start + len(piece)] = piece
        start += len(piece)
    return whole


def _owned(values: np.ndarray) -> Tensor:
    """A tensor that does not lie in the file's pages."""
    return torch.from_numpy(values if values.flags.writeable else values.copy())


def _as_q8_0(values: np.ndarray) -> Tensor:
    packed = quants.quantize(values, quants.GGMLQuantizationType.Q8_0)
    return torch.from_numpy(np.ascontiguousarray(packed))


def _frozen(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values, requires_grad=False)
