"""What is to know of an architecture to train models of it: one table each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from openchat_local.models.errors import ModelFileError
from openchat_local.models.gguf import GGUFFile

# What the sizes of a linear layer are called: of the residual stream, of all query heads, of
# all key or value heads, and inside of the feed-forward.
WIDTH, QUERIES, KEYS, FEED_FORWARD = "width", "queries", "keys", "feed_forward"

_IN_A_BLOCK = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer of a block: the `module` that Hugging Face has, whose names mlx-lm has too,
    and its sizes by name. Several `outputs` lie one after the other in its rows."""

    module: str
    outputs: tuple[str, ...]
    inputs: str
    bias: bool = False


@dataclass(frozen=True, slots=True)
class Architecture:
    """How a GGUF file of it becomes a model of mlx-lm or transformers.

    `name` is llama.cpp's, `model_type` that of Hugging Face's config.json and mlx-lm's module,
    `classes` what transformers' classes begin with, `families` what people call the models.

    `linears` and `norms` are those of a block by GGUF's names. A linear layer that may have a bias
    has one where the file has. `head_norms` are as long as a head, the others as the stream.
    `norm_offset` is what the file's norms have more than the classes' weights.

    `interleaved` says that in the rows of q and k the two numbers that are rotated together lie
    next to each other, where Hugging Face's halves of a head lie one after the other.

    `whole` are layers that have another name than elsewhere: llama's to this one's.

    `settings` are what config.json has beside the sizes; `known` the metadata that are read
    for them. `partial_rotation` allows heads of which only a part is rotated; every
    `unrotated_every` blocks there is one that does not rotate, 0 for none; `scalings` are kinds of
    RoPE scaling beside linear and YaRN. Of the `rotation_tables` that a file may have, factors for
    each pair, the used one counts.

    `windows` says of each block how many positions it looks at, its own the last, 0 for all that
    came before; () is 0 for every block. Blocks with a window rotate by `local_base`, unstretched,
    where that is not None. Scores and logits are kept within the caps by c · tanh(x / c), 0 for
    none. `activation` gates the feed-forward; GELU by its tanh approximation.

    `pictures` are what metadata begin with that tell of a picture encoder, which is a file of its
    own: the text part is trained without it.

    `always_tied` has no output layer but the embedding, as far as llama.cpp looks.

    `why_not` says what a file has that cannot be trained, in words that follow its name.
    """

    name: str
    model_type: str
    classes: str
    families: tuple[str, ...]
    linears: Mapping[str, Linear]
    norms: Mapping[str, str] = field(default_factory=lambda: _IN_A_BLOCK)
    head_norms: Mapping[str, str] = field(default_factory=dict)
    norm_offset: float = 0.0
    interleaved: bool = False
    partial_rotation: bool = False
    unrotated_every: int = 0
    whole: Mapping[str, str] = field(default_factory=dict)
    settings: Callable[[GGUFFile], Mapping[str, Any]] = lambda file: {}
    known: frozenset[str] = frozenset()
    pictures: tuple[str, ...] = ()
    scalings: frozenset[str] = frozenset()
    rotation_tables: tuple[str, ...] = ("rope_freqs.weight",)
    used_table: Callable[[GGUFFile], str] = lambda file: "rope_freqs.weight"
    embedding_scale: Callable[[GGUFFile], float] = lambda file: 1.0
    logit_divisor: Callable[[GGUFFile], float] = lambda file: 1.0
    always_tied: bool = False
    activation: Literal["silu", "gelu"] = "silu"
    windows: Callable[[GGUFFile], tuple[int, ...]] = lambda file: ()
    local_base: Callable[[GGUFFile], float | None] = lambda file: None
    attention_cap: Callable[[GGUFFile], float] = lambda file: 0.0
    logit_cap: Callable[[GGUFFile], float] = lambda file: 0.0
    why_not: Callable[[GGUFFile], str | None] = lambda file: None
    other_types: tuple[str, ...] = ()
    """Types of config.json whose models llama.cpp converts to this architecture as well."""

    @property
    def modules(self) -> dict[str, str]:
        """Its linear layers by GGUF's names, as Hugging Face names them within a block."""
        return {name: linear.module for name, linear in self.linears.items()}

    def sees_pictures(self, file: GGUFFile) -> bool:
        """Whether the model in `file` has a picture encoder beside it."""
        prefixes = tuple(f"{file.architecture}.{beginning}" for beginning in self.pictures)
        return any(key.startswith(prefixes) for key in file.metadata)

    def interleaved_heads(self, file: GGUFFile) -> dict[str, int]:
        """The layers whose rows are in another order than Hugging Face's, with the number of
        heads among them."""
        if not self.interleaved:
            return {}
        return {"attn_q": file.head_count, "attn_k": file.head_count_kv}

    def rotates(self, block: int) -> bool:
        """Whether that block, counted from 0, has positions in its attention."""
        return not self.unrotated_every or (block + 1) % self.unrotated_every != 0

    def layers_of(self, targets: tuple[str, ...]) -> tuple[str, ...]:
        """The layers here that `targets`, which may be a llama's, mean: each once."""
        return tuple(dict.fromkeys(self.whole.get(target, target) for target in targets))


def number(file: GGUFFile, name: str, default: float | None = None) -> float:
    """A number that the file says under its architecture's key `name`. Raises ModelFileError."""
    key = f"{file.architecture}.{name}"
    value = file.metadata.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelFileError(
            f"{file.path} has no usable {key!r}, so it cannot be fine-tuned: use another "
            "conversion of the model."
        )
    return float(value)


def gated(*, biased: tuple[str, ...] = ()) -> dict[str, Linear]:
    """The seven linear layers of a block of nearly every architecture; `biased` may have a
    bias."""
    sizes = {
        "attn_q": ("self_attn.q_proj", (QUERIES,), WIDTH),
        "attn_k": ("self_attn.k_proj", (KEYS,), WIDTH),
        "attn_v": ("self_attn.v_proj", (KEYS,), WIDTH),
        "attn_output": ("self_attn.o_proj", (WIDTH,), QUERIES),
        "ffn_gate": ("mlp.gate_proj", (FEED_FORWARD,), WIDTH),
        "ffn_up": ("mlp.up_proj", (FEED_FORWARD,), WIDTH),
        "ffn_down": ("mlp.down_proj", (WIDTH,), FEED_FORWARD),
    }
    return {name: Linear(*size, bias=name in biased) for name, size in sizes.items()}
