"""The same prompts answered before and after, under each condition: what a person looks at."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openchat_local.finetune.data.example import Example
from openchat_local.finetune.data.examples import read_examples
from openchat_local.finetune.data.prepare import Prepared
from openchat_local.finetune.run.settings import RunSettings
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.protocol import Engine, GenerationRequest, Sampling, TextDelta

ANSWER_TOKENS = 160
PROMPT_CHARACTERS = 2000  # of a longer prompt only the beginning is asked


@dataclass(frozen=True, slots=True)
class Asked:
    """What a model is asked, under the system prompt that the data has there ("" for none),
    and the answer that the data gives; `class_name` is the class of that conversation."""

    prompt: str
    system: str
    wanted: str
    class_name: str = ""


def prompts_to_ask(settings: RunSettings, prepared: Prepared, count: int) -> list[Asked]:
    """How held-out conversations begin, or trained ones if none are held out: those of the
    best class first."""
    held_out = len(prepared.validation) > 0
    rows = prepared.validation if held_out else prepared.train
    options = settings.data_options
    path = options.validation if held_out and options.validation else settings.data
    best_first = rows.classes.argsort(kind="stable")[:count]
    # A row may hold several conversations, of several classes.
    names = [rule.name for rule in prepared.policy.classes]
    keys = zip(rows.lines[best_first], rows.classes[best_first], strict=True)
    wanted = {(int(line), names[label]): place for place, (line, label) in enumerate(keys)}
    found: dict[int, Asked] = {}
    for example in read_examples(path, options.reading, lambda _: None):
        if len(found) == len(wanted):
            break
        if isinstance(example, Example):
            place = wanted.get((example.line, example.class_name))
            if place is not None:
                found.setdefault(place, _asked(example))
    return [asked for _, asked in sorted(found.items()) if asked.prompt]


def _asked(example: Example) -> Asked:
    """The first question of a conversation; of its replies, the first after that."""
    turns = iter(example.messages)
    prompt = next((turn.content for turn in turns if turn.role == "user"), "")
    wanted = next((turn.content for turn in turns if turn.role == "assistant"), "")
    return Asked(prompt, example.system_prompt, wanted, example.class_name)


def compare_answers(
    engine: Engine,
    adapter: Path,
    prompts: Sequence[Mapping[str, str]],
    conditions: Sequence[str],
    *,
    seconds: float,
    on_progress: Callable[[float], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Greedy answers of at most ANSWER_TOKENS to `prompts`, each as an `Asked` in JSON:
    `[{"prompt", "system", "wanted", "conditions": [{"condition", "before", "after"}]}]`; as
    many prompts as fit into `seconds`, one at least.

    Raises EngineError or AdapterError. The engine is left with the adapter in force.
    """
    started = time.monotonic()
    asked = [{**prompt, "prompt": prompt["prompt"][:PROMPT_CHARACTERS]} for prompt in prompts]
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
        answers.append({**prompt, "conditions": pairs})
        on_progress(0.5 + len(answers) / len(before) / 2)
    return answers


def _answer(engine: Engine, asked: Mapping[str, str], condition: str) -> str:
    system = (Message("system", asked["system"]),) if asked["system"] else ()
    conversation = Conversation((*system, Message("user", asked["prompt"])), condition)
    sampling = Sampling(temperature=0.0, max_tokens=ANSWER_TOKENS)
    # Drafts depend on the clock, and on a quantised model a token may depend on them.
    events = engine.generate(GenerationRequest(conversation, sampling, speculate=False))
    return "".join(event.text for event in events if isinstance(event, TextDelta))
