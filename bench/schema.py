"""Decoding under a JSON schema against free decoding of the same model.

Both take turns in one living process. The ratio to reach is 0.95: a token that the schema
forbids is drawn twice, and one that it leaves no choice about is not drawn at all.
"""

from __future__ import annotations

from dataclasses import replace

from bench.report import interleave, table
from bench.setting import starter
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import (
    EngineOptions,
    Finished,
    GenerationRequest,
    Sampling,
)

SCHEMA = {
    "type": "object",
    "properties": {
        "people": {
            "type": "array",
            "minItems": 12,
            "maxItems": 12,
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "maxLength": 30},
                    "age": {"type": "integer"},
                    "job": {"type": "string", "maxLength": 40},
                },
                "required": ["name", "age", "job"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["people"],
    "additionalProperties": False,
}
PROMPT = "Make up twelve people, each with name, age and job, as JSON."


def main() -> None:
    engine = LocalEngine(EngineOptions(starter()))
    conversation = Conversation((Message("user", PROMPT),))
    free = Sampling(temperature=0.7, seed=1, max_tokens=250)

    def speed(sampling: Sampling) -> float:
        *_, finished = engine.generate(GenerationRequest(conversation, sampling))
        assert isinstance(finished, Finished)
        return finished.usage.tokens_per_second

    contenders = {
        "free": lambda: speed(free),
        "JSON schema": lambda: speed(replace(free, json_schema=SCHEMA)),
    }
    print(table(interleave(contenders, rounds=7), "tokens/s", against="free"))
    engine.close()
