"""What a LoRA adapter's GGUF file says of itself, and whether it fits a model.

The format is llama.cpp's; what training knows beside it (classes, conditions, rewards, the
base and the data) stands in keys of our own, `openchat_local.*`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openchat_local.models.errors import AdapterError
from openchat_local.models.gguf import GGUFFile, Tensor, read_gguf
from openchat_local.models.library.identity import BaseIdentity, difference

FILE_NAME = "adapter.gguf"

CLASSES = "openchat_local.classes"
CONDITIONS = "openchat_local.conditions"
REWARDS = "openchat_local.rewards"
TEMPLATE = "openchat_local.template"
BASE_NAME = "openchat_local.base.name"
BASE_FINGERPRINT = "openchat_local.base.fingerprint"
BASE_IDENTITY = "openchat_local.base.identity"
DATA_HASH = "openchat_local.data.hash"
SYSTEM = "openchat_local.system_prompt"

_TOKEN_EMBEDDING = "token_embd.weight"


@dataclass(frozen=True, slots=True)
class TrainedClass:
    """A class of the training data: the condition in its role headers ("" for none), and its
    reward, which was its loss weight."""

    name: str
    condition: str
    reward: float


@dataclass(frozen=True, slots=True)
class AdapterCard:
    """What an adapter was trained on. `base` says which model, `base_fingerprint` which file
    of it (`GGUFFile.fingerprint`), `data_hash` is the data's, `system_prompt` the one that most
    of the best class's conversations have; None and () are for what is not known."""

    classes: tuple[TrainedClass, ...] = ()
    template: str | None = None
    base_name: str | None = None
    base_fingerprint: str | None = None
    data_hash: str | None = None
    base: BaseIdentity | None = None
    system_prompt: str | None = None

    @property
    def condition(self) -> str | None:
        """The condition of the class with the highest reward (the first of equals), under
        which the model is at its best (arXiv 2309.11235, section 3.3); None if unknown."""
        best = max(self.classes, key=lambda trained: trained.reward, default=None)
        return None if best is None else best.condition


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """An adapter's header. `pairs` are the tensors A (inputs, rank) and B (rank, outputs),
    shapes in GGUF's order, by the name of the tensor that they add to."""

    file: GGUFFile
    card: AdapterCard
    alpha: float
    pairs: Mapping[str, tuple[Tensor, Tensor]]

    @property
    def ranks(self) -> frozenset[int]:
        """The ranks that occur; nearly always one."""
        return frozenset(a.shape[1] for a, _ in self.pairs.values())

    def scale(self, rank: int) -> float:
        """The factor before B·A at this rank; alpha 0 means 1, as it does to llama.cpp."""
        return self.alpha / rank if self.alpha else 1.0


def adapter_name(path: Path) -> str:
    """What to call the adapter at `path`: an installed one by its folder, else by its stem."""
    return path.parent.name if path.name == FILE_NAME else path.stem


def read_adapter(path: Path) -> AdapterFile:
    """Read the header of the adapter at `path`.

    Raises AdapterError, or ModelFileError where the file is not even whole GGUF.
    """
    file = read_gguf(path)
    kind = file.metadata.get("general.type", "model")
    if kind != "adapter":
        raise AdapterError(
            f"{path} is a {kind}, not an adapter: load it with --model, or name another file."
        )
    if file.metadata.get("adapter.type") != "lora":
        raise AdapterError(
            f"{path} is an adapter of the kind {file.metadata.get('adapter.type')!r}: "
            "only LoRA adapters can be used."
        )
    alpha = file.metadata.get("adapter.lora.alpha", 0.0)
    if not isinstance(alpha, float) or not math.isfinite(alpha):
        raise AdapterError(f"{path} has no usable adapter.lora.alpha: export the adapter again.")
    return AdapterFile(file, read_card(file.metadata), alpha, _pairs(file))


def check_fits(adapter: AdapterFile, base: GGUFFile, *, force: bool = False) -> str | None:
    """Raise AdapterError unless `adapter` was made for the model in `base`, in whatever
    quantisation, and every tensor fits it.

    With `force` another model of the same shapes will do: what tells it from the adapter's own
    comes back as a sentence, None if nothing does.
    """
    name = adapter_name(adapter.file.path)
    advice = "load its own model with --model, or choose another adapter"
    if adapter.file.architecture != base.architecture:
        raise AdapterError(
            f"The adapter {name} is for the architecture {adapter.file.architecture!r} and "
            f"{base.path.name} is {base.architecture!r}: {advice}."
        )
    foreign, misfit = _foreign(adapter.card, name, base), _misfit(adapter, name, base)
    if foreign is not None and not force:
        forcing = "" if misfit else ", or add --force"  # which no shape can be
        raise AdapterError(f"{foreign}: {advice}{forcing}.")
    if misfit is not None:
        raise AdapterError(f"{misfit}: {advice}.")
    return None if foreign is None else f"{foreign}: it is used anyway (--force)."


def is_base(card: AdapterCard, file: GGUFFile) -> bool:
    """Whether an adapter with this card was trained on the model in `file`, as far as it says.
    Raises ModelFileError."""
    return _foreign(card, "", file) is None


def _foreign(card: AdapterCard, name: str, base: GGUFFile) -> str | None:
    if card.base_fingerprint == base.fingerprint:
        return None
    if card.base_fingerprint is None and card.base is None:
        return None
    trained_on = f"The adapter {name} was trained on {card.base_name or 'another model'}"
    if card.base is None:  # written by an earlier version, which knew of one file only
        return (
            f"{trained_on}, whose fingerprint ({str(card.base_fingerprint)[:8]}) is not that of "
            f"{base.path.name} ({base.fingerprint[:8]})"
        )
    what = difference(card.base, base)
    return None if what is None else f"{trained_on}, and {base.path.name} has {what}"


def _misfit(adapter: AdapterFile, name: str, base: GGUFFile) -> str | None:
    """Which tensor of the adapter does not fit, in a sentence without its end."""
    tensors = {tensor.name: tensor for tensor in base.tensors}
    for target, (a, b) in adapter.pairs.items():
        tensor = tensors.get(target)
        if tensor is None or not _fits(target, tensor.shape, a.shape, b.shape):
            has = "no such tensor" if tensor is None else _by(tensor)
            return (
                f"The adapter {name} changes {target} by {_by(a)} and {_by(b)}, and "
                f"{base.path.name} has {has} there"
            )
    return None


def read_card(metadata: Mapping[str, Any]) -> AdapterCard:
    """The card among the metadata of an adapter, or of a model that one was merged into."""
    names, conditions, rewards = (
        list(value) if isinstance(value := metadata.get(key), Sequence) else []
        for key in (CLASSES, CONDITIONS, REWARDS)
    )
    known = len(names) == len(conditions) == len(rewards) and all(map(_is_finite, rewards))
    classes = zip(names, conditions, rewards, strict=True) if known else ()
    return AdapterCard(
        classes=tuple(TrainedClass(str(n), str(c), float(r)) for n, c, r in classes),
        template=_text(metadata, TEMPLATE),
        base_name=_text(metadata, BASE_NAME),
        base_fingerprint=_text(metadata, BASE_FINGERPRINT),
        data_hash=_text(metadata, DATA_HASH),
        base=BaseIdentity.from_json(_text(metadata, BASE_IDENTITY) or ""),
        system_prompt=_text(metadata, SYSTEM),
    )


def card_metadata(card: AdapterCard) -> dict[str, str | list[str] | list[float]]:
    """The metadata that `read_card` reads."""
    fields: dict[str, str | list[str] | list[float]] = {}
    if card.classes:
        fields[CLASSES] = [trained.name for trained in card.classes]
        fields[CONDITIONS] = [trained.condition for trained in card.classes]
        fields[REWARDS] = [float(trained.reward) for trained in card.classes]
    texts = {
        TEMPLATE: card.template,
        BASE_NAME: card.base_name,
        BASE_FINGERPRINT: card.base_fingerprint,
        DATA_HASH: card.data_hash,
        BASE_IDENTITY: None if card.base is None else card.base.as_json(),
        SYSTEM: card.system_prompt,
    }
    return fields | {key: text for key, text in texts.items() if text is not None}


def _pairs(file: GGUFFile) -> dict[str, tuple[Tensor, Tensor]]:
    halves: dict[str, dict[str, Tensor]] = {}
    for tensor in file.tensors:
        target, _, half = tensor.name.rpartition(".")
        if half not in ("lora_a", "lora_b") or len(tensor.shape) != 2:
            raise AdapterError(
                f"{file.path} holds {tensor.name!r}, which is not half of a LoRA pair: "
                "only plain LoRA can be used (no DoRA, no changed norms)."
            )
        halves.setdefault(target, {})[half] = tensor
    pairs = {}
    for target, both in halves.items():
        a, b = both.get("lora_a"), both.get("lora_b")
        if a is None or b is None:
            raise AdapterError(
                f"{file.path} has only half of the pair for {target}: export the adapter again."
            )
        pairs[target] = a, b
    if not pairs:
        raise AdapterError(f"{file.path} changes no tensor at all: export the adapter again.")
    return pairs


def _fits(target: str, base: Sequence[int], a: Sequence[int], b: Sequence[int]) -> bool:
    if len(base) != 2:
        return False
    if target == _TOKEN_EMBEDDING:  # llama.cpp looks rows of A up here
        return base[0] == b[1] and base[1] == a[1]
    return base[0] == a[0] and base[1] == b[1] and a[1] == b[0]


def _by(tensor: Tensor) -> str:
    return "×".join(map(str, reversed(tensor.shape)))


def _text(metadata: Mapping[str, Any], key: str) -> str | None:
    value = metadata.get(key)
    return value if isinstance(value, str) and value else None


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
