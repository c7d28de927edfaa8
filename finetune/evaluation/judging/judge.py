"""How a judge is asked: by which means, and within which bounds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from openchat_local.models.engine.protocol import AdapterChoice

JudgeBy = Literal["answer", "likelihood"]


@dataclass(frozen=True, slots=True)
class Judging:
    """`by` "answer", the judge writes a reason and a verdict, greedily, held to a JSON schema;
    `by` "likelihood", the probabilities of the possible verdicts are read off before it writes
    anything: one evaluation of the prompt, and the only thing a small judge is able to say.

    A written judgement is given up after `tokens` tokens and after `seconds` seconds, its
    wait for the others included; reading probabilities off takes no longer than the prompt.
    `adapter` and `condition` are what the judge answers with, as in a `GenerationRequest`.
    """

    by: JudgeBy = "answer"
    tokens: int = 256
    seconds: float = 1800.0
    adapter: AdapterChoice | None = None
    condition: str | None = None

    def as_json(self) -> dict[str, Any]:
        """For what a result says of itself; the adapter is the judge's own affair."""
        fields = asdict(self)
        del fields["adapter"]
        return fields
