"""Typed settings: flags over environment over the TOML file over defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from openchat_local.app.paths import config_path
from openchat_local.app.settings.engines import NamedEngine
from openchat_local.app.settings.layers import (
    EnvironmentLayer,
    FileLayer,
    FlagLayer,
    Layer,
    SettingsError,
    leaves,
    merge,
)
from openchat_local.app.settings.learning import LearningSettings
from openchat_local.app.settings.section import Section
from openchat_local.models.engine.context_window import Overflow
from openchat_local.models.engine.protocol import FlashAttention, KVType, Sampling

__all__ = [
    "Preset",
    "SamplingSettings",
    "Settings",
    "SettingsError",
    "load_settings",
    "load_settings_forgivingly",
    "load_settings_with_sources",
]

_SAMPLING = Sampling()
LARGEST = 2**31 - 1  # what llama.cpp's 32 bits hold: a larger number would wrap around


class SamplingSettings(Section):
    """How the next token is chosen, unless a chat or a flag says otherwise."""

    temperature: float = Field(
        default=_SAMPLING.temperature,
        ge=0,
        le=10,
        description="Randomness of a reply; 0 is greedy.",
    )
    top_k: int = Field(
        default=_SAMPLING.top_k,
        ge=0,
        le=LARGEST,
        description="Draw from the k likeliest tokens; 0 for all.",
    )
    top_p: float = Field(
        default=_SAMPLING.top_p,
        gt=0,
        le=1,
        description="Draw from the likeliest tokens that make up this share; 1 for all.",
    )
    min_p: float = Field(
        default=_SAMPLING.min_p,
        ge=0,
        le=1,
        description="Drop tokens less likely than this share of the likeliest; 0 for none.",
    )
    repeat_penalty: float = Field(
        default=_SAMPLING.repeat_penalty,
        gt=0,
        le=10,
        description="Divide the odds of tokens used recently by this; 1 for no penalty.",
    )
    # Long enough for nearly every answer; a reply that repeats itself for ever ends.
    max_tokens: int = Field(
        default=2048,
        ge=0,
        le=LARGEST,
        description="End a reply after so many tokens; 0 for none but the context's.",
    )
    seed: int | None = Field(
        default=_SAMPLING.seed,
        ge=0,
        lt=2**32,
        description="Make draws repeatable; unset draws a new seed for each reply.",
    )
    thinking: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Whether replies think first, of models that can be asked; `auto` is the "
        "model's own way.",
    )

    def as_sampling(self) -> Sampling:
        """These settings in the form that an engine takes."""
        wanted = {"on": True, "off": False}.get(self.thinking)
        changed = {"max_tokens": self.max_tokens or None, "thinking": wanted}
        return Sampling(**self.model_dump() | changed)


class KVSettings(Section):
    """The KV cache, and what a chat leaves of it on disk so that reopening it costs a read, not
    a prefill."""

    type: KVType = Field(
        default="f16",
        description="Numbers of the KV cache: f16, or q8_0 for about half the memory.",
    )

    enabled: bool = Field(default=True, description="Keep the state of a chat when it is left.")
    budget_gib: float = Field(
        default=2.0, ge=0, le=1e6, description="Disk space for all kept states together, in GiB."
    )

    @property
    def budget_bytes(self) -> int:
        """The budget in bytes; 0 when nothing is to be kept."""
        return int(self.budget_gib * 1024**3) if self.enabled else 0


class EngineSettings(Section):
    """How replies are decoded."""

    speculation: bool = Field(
        default=True,
        description="Draft what the chat repeats and verify several tokens at once, where that "
        "is faster; a reply with a seed does without.",
    )
    flash_attention: FlashAttention = Field(
        default="auto",
        description="On the CPU, `on`, `off`, or `auto`: what is faster, timed once on this "
        "machine.",
    )


class TUISettings(Section):
    """How the chat window looks."""

    theme: str = Field(default="textual-dark", min_length=1, description="Name of a Textual theme.")
    enter: Literal["send", "newline"] = Field(
        default="send",
        description="What Enter does in the prompt, `send` or `newline`; Ctrl+J does the other.",
    )
    notify: Literal["message", "bell", "off"] = Field(
        default="message",
        description="When something has been learned: `message` rings and has the terminal show "
        "it, where it can; `bell` only rings; `off` does neither.",
    )


class Preset(Section):
    """Settings of a chat under a name: only what is set here replaces what the chat has."""

    model: str | None = Field(
        default=None, min_length=1, description="The model, as in the setting of that name."
    )
    adapter: str | None = Field(
        default=None, min_length=1, description="The adapter; none is the model as it is."
    )
    condition: str | None = Field(default=None, description="The condition; empty is none.")
    system_prompt: str | None = Field(default=None, description="The system prompt.")
    sampling: SamplingSettings = Field(
        default=SamplingSettings(), description="How the next token is chosen."
    )

    def as_fields(self) -> dict[str, Any]:
        """What is set, as columns of a chat; `sampling` holds only what is set in it."""
        fields = self.model_dump(exclude_unset=True)
        return {name: value for name, value in fields.items() if value is not None}


class Settings(Section):
    """Everything that can be configured. Get one from `load_settings`, which reads and merges the
    layers itself, because it reports on each."""

    model: str = Field(
        default="starter",
        min_length=1,
        description="A model's name, the path of a GGUF file, or MODEL@ENGINE of another program.",
    )
    adapter: str | None = Field(
        default=None,
        min_length=1,
        description="An adapter's name, or its GGUF file; unset or none is the model as it is.",
    )
    template: str | None = Field(
        default=None, min_length=1, description="Chat template; unset reads it from the model file."
    )
    context: int = Field(
        default=0,
        ge=0,
        le=LARGEST,
        description="Context window in tokens; 0 lets the program choose.",
    )
    context_overflow: Overflow = Field(
        default="drop-oldest",
        description="What happens when a chat outgrows the context: its oldest turns are left "
        "out (drop-oldest; never the system prompt), or the prompt is refused (refuse).",
    )
    gpu_layers: int = Field(
        default=-1,
        ge=-1,
        le=LARGEST,
        description="Layers kept on the GPU; -1 lets the program choose.",
    )
    threads: int = Field(
        default=0, ge=0, le=1024, description="Threads for decoding; 0 lets the program choose."
    )
    condition: str | None = Field(
        default=None,
        description="C-RLFT condition in every role header; unset is the template's own, "
        "empty is none.",
    )
    system_prompt: str = Field(
        default="", description="System prompt of new chats; empty is the template's own."
    )
    sampling: SamplingSettings = Field(
        default=SamplingSettings(), description="How the next token is chosen."
    )
    kv: KVSettings = Field(
        default=KVSettings(), description="The KV cache, and its states kept on disk."
    )
    engine: EngineSettings = Field(default=EngineSettings(), description="How replies are decoded.")
    tui: TUISettings = Field(default=TUISettings(), description="How the chat window looks.")
    learning: LearningSettings = Field(
        default=LearningSettings(), description="What is learned from one's own chats."
    )
    engines: dict[str, NamedEngine] = Field(
        default={},
        description="Engines that are other programs, for `--engine NAME` and MODEL@NAME.",
    )
    keys: dict[str, str] = Field(
        default={},
        description="Keys of the chat window by the names that F1 shows with Tab.",
    )
    presets: dict[str, Preset] = Field(
        default={}, description="Named settings of a chat, for `/preset NAME` in the window."
    )

    @field_validator("keys", mode="before")
    @classmethod
    def _flat_keys(cls, value: object) -> object:
        # TOML reads `chat.new = "f6"`, without quotes, as a table within a table.
        if not isinstance(value, Mapping):
            return value
        return {".".join(key): keys for key, keys in leaves(value)}


def load_settings(overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings in force. `overrides` are the flags given, nested as the settings are
    (``{"model": "starter", "sampling": {"temperature": 0.0}}``); None means not given.

    Raises SettingsError, which names the file and line, variable or flag at fault.
    """
    return load_settings_with_sources(overrides)[0]


def load_settings_with_sources(
    overrides: Mapping[str, Any] | None = None,
) -> tuple[Settings, dict[str, str]]:
    """Like `load_settings`, with the source of each value: dotted key → "flag",
    "environment", "file" or "default".
    """
    file = FileLayer(config_path())
    # One by one, so that a fault in a value that a later layer replaces is told as well.
    file.validate(Settings)
    return _merged(file, overrides)


def load_settings_forgivingly(
    overrides: Mapping[str, Any] | None = None,
) -> tuple[Settings, list[str]]:
    """The settings in force without the values of the file that are wrong, and one sentence
    for each of those: for the window, in which they can be read and corrected.

    Raises SettingsError for a fault in the environment or in a flag.
    """
    try:
        file = FileLayer(config_path())
    except SettingsError as problem:
        return _merged(None, overrides)[0], [f"{problem} Until then no setting of it holds."]
    problems = file.drop_faults(Settings)
    return _merged(file, overrides)[0], problems


def _merged(
    file: FileLayer | None, overrides: Mapping[str, Any] | None
) -> tuple[Settings, dict[str, str]]:
    merged: dict[str, Any] = {}
    sources = {".".join(key): "default" for key, _ in leaves(Settings().model_dump())}
    layers: list[Layer] = [EnvironmentLayer(Settings), FlagLayer(overrides or {})]
    for layer in layers:
        layer.validate(Settings)
    for layer in [file, *layers] if file else layers:
        merge(merged, layer.values)
        sources.update((".".join(key), layer.name) for key, _ in leaves(layer.values))
    return Settings(**merged), sources
