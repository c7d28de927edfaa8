"""What is judged: a model, an adapter or none, a condition, and how tokens are drawn."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from openchat_local.finetune.evaluation.rows import digest_of
from openchat_local.models.engine.protocol import AdapterChoice, Sampling
from openchat_local.models.engine.remote.options import RemoteOptions
from openchat_local.models.gguf import read_gguf
from openchat_local.models.library.adapter_file import check_fits, read_adapter

GREEDY = Sampling(temperature=0.0)


@dataclass(frozen=True)
class Contender:
    """One that is judged. `label` is what a person calls it; `condition` None is the adapter's
    own, or the template's where it has none. `model_digest` and `adapter_digest` (None without
    an adapter) say which bytes these are; `doubt` is a sentence where the adapter may be of
    another model. One of a remote engine has `remote`, how it is asked; its `model` is no file
    then, and its digest is of the URL and the model's name there, which is all that is known."""

    label: str
    model: Path
    choice: AdapterChoice
    condition: str | None
    sampling: Sampling
    template: str | None
    model_digest: str
    adapter_digest: str | None
    doubt: str | None = None
    remote: RemoteOptions | None = None

    @property
    def is_base(self) -> bool:
        """Whether it is the model as it is."""
        return self.choice.path is None

    @cached_property
    def scoring_identity(self) -> str:
        """SHA-256 (hex) of all that decides how likely it finds a text."""
        return digest_of(self._what_scores())

    @cached_property
    def identity(self) -> str:
        """SHA-256 (hex) of all that decides what it writes."""
        return digest_of(self._what_scores() | {"sampling": self._how_drawn()})

    def as_json(self) -> dict[str, Any]:
        """What a result says of it: names, no folders of this machine."""
        path = self.choice.path
        return {
            "label": self.label,
            "model": self.model.name if self.remote is None else _name_at(self.remote),
            "adapter": None if path is None else path.parent.name + "/" + path.name,
            "sampling": self._how_drawn(),
            **self._what_scores(),
        }

    def with_condition(self, condition: str | None) -> Contender:
        """The same under another condition."""
        return replace(self, condition=condition)

    def _how_drawn(self) -> dict[str, Any]:
        """Results that were kept before there was a choice are those of who makes none."""
        drawn = asdict(self.sampling)
        if drawn["thinking"] is None:
            del drawn["thinking"]
        return drawn

    def _what_scores(self) -> dict[str, Any]:
        return {
            "model_digest": self.model_digest,
            "adapter_digest": self.adapter_digest,
            "scale": self.choice.scale if self.adapter_digest else 1.0,
            "condition": self.condition,
            "template": self.template,
            **({} if self.remote is not None else {"llama_cpp": version("llama-cpp-python")}),
        }


def _name_at(options: RemoteOptions) -> str:
    return f"{options.model}@{options.label}"


def remote_contender(
    label: str,
    options: RemoteOptions,
    *,
    condition: str | None = None,
    sampling: Sampling = GREEDY,
) -> Contender:
    """A contender that answers at a remote engine, as the model that `options` name."""
    doubt = None
    if not options.address.loopback:
        doubt = (
            f"{label} is asked by its name at {options.address.place}: what answers by that name "
            "may be another model another day."
        )
    return Contender(
        label,
        Path(_name_at(options)),
        AdapterChoice(),
        condition,
        sampling,
        None,
        digest_of({"url": options.address.base, "model": options.model}),
        None,
        doubt,
        options,
    )


def contender(
    label: str,
    model: Path,
    adapter: Path | None = None,
    *,
    scale: float = 1.0,
    condition: str | None = None,
    sampling: Sampling = GREEDY,
    template: str | None = None,
    force: bool = False,
) -> Contender:
    """A contender of these files. `force` takes adapters of other models of the same shapes.

    Raises ModelFileError, or AdapterError where the adapter is none or does not fit.
    """
    base = read_gguf(model)
    digest = doubt = None
    if adapter is not None:
        doubt = check_fits(read_adapter(adapter), base, force=force)
        with adapter.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Contender(
        label,
        model,
        AdapterChoice(adapter, scale),
        condition,
        sampling,
        template,
        base.fingerprint,
        digest,
        doubt,
    )
