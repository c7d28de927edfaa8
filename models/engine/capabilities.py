"""What an engine that is another program can do, and why it cannot do the rest: plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["openchat-local", "llama-server", "vllm", "openai", "other"]
Ability = Literal["adapters", "conditions", "counts", "scoring", "continuing", "template", "local"]
"""What is asked of an engine beside a reply. "local" are the settings of an engine in a child of
ours: threads, layers on the GPU, speculation, the KV cache."""

SamplingName = Literal["top_k", "min_p", "repeat_penalty"]
SAMPLING_NAMES: tuple[SamplingName, ...] = get_args(SamplingName)
"""Fields of the sampling that OpenAI's API does not have."""

_CALLED = {
    "openchat-local": "openchat-local",
    "llama-server": "llama-server",
    "vllm": "vLLM",
    "openai": "OpenAI",
    "other": "an OpenAI-compatible server",
}


@dataclass(frozen=True, slots=True)
class Capabilities:
    """`kind` is what the server was recognised as, by its answers. `models` are the ids that it
    lists. `thinking` says whether it can be asked for a reply without thoughts, of a model that
    has any. `sampling` are the fields beside OpenAI's that it understands."""

    kind: Kind = "other"
    models: tuple[str, ...] = ()
    adapters: bool = False
    conditions: bool = False
    counts: bool = False
    scoring: bool = False
    continuing: bool = False
    thinking: bool = False
    sampling: frozenset[SamplingName] = frozenset()

    @property
    def thinking_known(self) -> bool:
        """Whether the server said itself what can be asked of its model."""
        return self.kind == "openchat-local"

    @property
    def server(self) -> str:
        """What kind of server it is, in words."""
        return _CALLED[self.kind]


@dataclass(frozen=True, slots=True)
class RemotePlace:
    """Where a remote engine answers. `label` is what it is called by: its name in the settings,
    else its URL. `leaves` says whether words leave this machine."""

    label: str
    url: str
    place: str
    leaves: bool
    can: Capabilities

    @property
    def counts_drafts(self) -> bool:
        """Whether tokens can be counted before anything is sent: counting sends the text."""
        return self.can.counts and not self.leaves

    def in_words(self) -> str:
        """Where words go, in one sentence."""
        if self.leaves:
            return f"Remote: what you write leaves this machine, for {self.url}."
        return f"What you write goes to another program on this machine, {self.url}."

    def why_not(self, ability: Ability) -> str | None:
        """Why something cannot be had there, in one sentence with what can be done; None where
        it can."""
        can = self.can
        if ability == "counts":
            if not can.counts:
                return f"{self.place} counts no tokens before a reply: its count comes with it."
            return _COUNTED if self.leaves else None
        if ability != "local" and ability != "template" and getattr(can, ability):
            return None
        return _WHY_NOT[ability].format(place=self.place, server=can.server)

    def misses(self, name: str) -> str | None:
        """Why a field of the sampling has no effect there; None where it has."""
        if name not in SAMPLING_NAMES or name in self.can.sampling:
            return None
        return (
            f"{self.place} ({self.can.server}) knows no {name.replace('_', '-')}: leave it as it "
            "is, or choose with temperature and top-p."
        )


_COUNTED = "What is not sent yet is not counted: counting it would send it."
_WHY_NOT: dict[Ability, str] = {
    "adapters": (
        "Adapters are files of this machine, and {place} ({server}) has none of them: choose a "
        "model that is here, or serve the adapter there with openchat-local."
    ),
    "conditions": (
        '{place} ({server}) knows no conditions: take it away with --condition "" (/condition '
        "none in the window), or ask a model that is here."
    ),
    "scoring": (
        "{place} ({server}) does not tell how likely a given text is: use a model that is here, "
        "another openchat-local, or vLLM."
    ),
    "continuing": (
        "{place} ({server}) cannot continue a reply where it stopped: ask for the rest of it."
    ),
    "template": (
        "The template is the affair of {place} ({server}): leave --template and --raw away."
    ),
    "local": (
        "Threads, layers on the GPU and the like belong to an engine of this machine, and {place} "
        "has its own: leave them away."
    ),
}
