"""Every setting of a run: what run.json keeps, and all that a resumed run needs to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from openchat_local.finetune.adapter.lora import LoraConfig
from openchat_local.finetune.backends.trainer import OptimizerConfig
from openchat_local.finetune.data.options import DataOptions
from openchat_local.models.errors import OpenChatError


class RunSettingsError(OpenChatError):
    """A run.json whose settings are not those of this version."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What a person asked for. 0, None and "auto" are chosen by the plan.

    `base` is a GGUF file and `data` a JSONL file. `max_length` is in tokens, `minutes` of
    training, `tokens` are those that are read in it; of `epochs`, `steps`, `minutes` and
    `tokens` the first that ends ends the run. `warmup` and
    `floor` are as in `Schedule`; `validations` is how often the held-out loss is measured,
    `patience` how many of them in a row may bring nothing better, 0 for any number.
    `quantised` keeps the base quantised, or with `nf4` in 4-bit NormalFloat; `weights` is a
    Hugging Face folder to train on instead of them. `start_from` is an adapter.gguf whose weights
    training begins with; `lora` is then as `lora_of` in `parent` says.
    """

    name: str
    base: Path
    data: Path
    data_options: DataOptions = field(default_factory=DataOptions)
    template: str | None = None
    weights: Path | None = None
    backend: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    quantised: bool | None = None
    nf4: bool = False
    lora: LoraConfig = field(default_factory=LoraConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    seed: int = 0
    max_length: int = 0
    tokens_per_step: int = 0
    tokens_per_batch: int = 0
    packing: bool | None = None
    checkpointing: bool | None = None
    epochs: float = 0.0
    steps: int = 0
    minutes: float = 0.0
    tokens: int = 0
    warmup: float = 0.05
    floor: float = 0.1
    validations: int = 10
    patience: int = 0
    start_from: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """JSON values only."""
        fields = asdict(self)
        fields["base"], fields["data"] = str(self.base), str(self.data)
        for name in ("weights", "start_from"):
            path = getattr(self, name)
            fields[name] = None if path is None else str(path)
        validation = self.data_options.validation
        fields["data_options"]["validation"] = None if validation is None else str(validation)
        return fields

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> RunSettings:
        """What `as_json` gave. Raises RunSettingsError for what another version wrote."""
        try:
            return cls._from_json(fields)
        except (KeyError, TypeError, ValueError) as error:
            raise RunSettingsError(
                f"The run's settings cannot be read ({error}), another version may have written "
                "them: start a new run."
            ) from error

    @classmethod
    def _from_json(cls, fields: Mapping[str, Any]) -> RunSettings:
        # Before there was a choice, thoughts were learned.
        options = DataOptions(**{"thinking": True} | fields["data_options"])
        if options.validation is not None:
            options = replace(options, validation=Path(options.validation))
        lora = LoraConfig(**fields["lora"] | {"targets": tuple(fields["lora"]["targets"])})
        optimizer = fields["optimizer"]
        return cls(
            **dict(fields)
            | {
                "base": Path(fields["base"]),
                "data": Path(fields["data"]),
                "weights": Path(fields["weights"]) if fields.get("weights") else None,
                "start_from": Path(fields["start_from"]) if fields.get("start_from") else None,
                "data_options": options,
                "lora": lora,
                "optimizer": OptimizerConfig(**optimizer | {"betas": tuple(optimizer["betas"])}),
            }
        )
