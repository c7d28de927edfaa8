"""The same prompts answered before and after, under each condition: what a person looks at."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.protocol import Engine, GenerationRequest, Sampling, TextDelta

ANSWER_TOKENS = 160
PROMPT_CHARACTERS = 2000  # of a longer prompt only the beginning is asked


def compare_answers(
    engine: Engine,
    adapter: Path,
    prompts: Sequence[str],
    conditions: Sequence[str],
    *,
    seconds: float,
    on_progress: Callable[[float], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Greedy answers of at most ANSWER_TOKENS, `[{"prompt", "conditions": [{"condition",
    "before", "after"}]}]`; as many prompts as fit into `seconds`, one at least.

    Raises EngineError or AdapterError. The engine is left with the adapter in force.
    """
    started = time.monotonic()
    asked = [prompt[:PROMPT_CHARACTERS] for prompt in prompts]
    engine.set_adapter(None)
    before: list[list[str]] = []
    for prompt in asked:
        before.append([_answer(engine, prompt, condition) for condition in conditions])
        on_progress(len(before) / len(asked) / 2)
        if time.monotonic() - started > seconds / 2:
            break
    engine.set_adapter(adapter)
    answers = []
    for prompt, olds in zip(asked, before, strict=False):
        pairs = [
            {"condition": condition, "before": old, "after": _answer(engine, prompt, condition)}
            for condition, old in zip(conditions, olds, strict=True)
        ]
        answers.append({"prompt": prompt, "conditions": pairs})
        on_progress(0.5 + len(answers) / len(before) / 2)
    return answers


def _answer(engine: Engine, prompt: str, condition: str) -> str:
    conversation = Conversation((Message("user", prompt),), condition)
    sampling = Sampling(temperature=0.0, max_tokens=ANSWER_TOKENS)
    events = engine.generate(GenerationRequest(conversation, sampling))
    return "".join(event.text for event in events if isinstance(event, TextDelta))
