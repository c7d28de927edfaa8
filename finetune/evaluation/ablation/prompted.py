"""Short greedy answers to held-out prompts under each condition: are they in the expert's form?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openchat_local.finetune.data.example import Example
from openchat_local.finetune.evaluation.asking import ask_all
from openchat_local.finetune.evaluation.rows import RowFile
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.protocol import (
    AdapterChoice,
    Engine,
    GenerationRequest,
    Sampling,
)
from openchat_local.models.errors import OpenChatError


@dataclass(frozen=True, slots=True)
class Question:
    """What a conversation begins with, under its system prompt ("" for none)."""

    system: str
    text: str

    def under(self, condition: str) -> Conversation:
        """As a prompt."""
        system = (Message("system", self.system),) if self.system else ()
        return Conversation((*system, Message("user", self.text)), condition)


@dataclass(frozen=True, slots=True)
class InForm:
    """Of `asked` answers of one seed, those in the expert's form."""

    count: int
    asked: int


def questions(examples: Iterable[Example], count: int) -> list[Question]:
    """The first `count` that differ."""
    found: dict[Question, None] = {}
    for example in examples:
        text = next((turn.content for turn in example.messages if turn.role == "user"), "")
        if text.strip():
            found.setdefault(Question(example.system_prompt, text))
    return list(found)[:count]


def ask(
    engine: Engine,
    choice: AdapterChoice,
    asked: Sequence[Question],
    conditions: Sequence[str],
    kept: RowFile,
    *,
    tokens: int,
    progress: Callable[[float], None],
) -> None:
    """Have answered what `kept` has no answer to yet, with at most so many `tokens`.

    Raises EngineError, also where one prompt cannot be answered.
    """
    there = {_key(row) for row in kept.rows()}
    work = [
        (number, index)
        for number in range(len(conditions))
        for index in range(len(asked))
        if (number, index, tokens) not in there
    ]
    sampling = Sampling(temperature=0.0, max_tokens=tokens)
    requests = [
        # Drafts depend on the clock, and on a quantised model a token may depend on them.
        GenerationRequest(
            asked[index].under(conditions[number]), sampling, adapter=choice, speculate=False
        )
        for number, index in work
    ]
    for done, answer in enumerate(ask_all(engine, requests), 1):
        number, index = work[answer.index]
        if answer.error is not None:
            raise OpenChatError(f"A held-out prompt could not be answered: {answer.error}")
        kept.append({"condition": number, "prompt": index, "tokens": tokens, "text": answer.text})
        progress(done / len(work))


def in_form(
    rows: Iterable[Mapping[str, Any]],
    form: re.Pattern[str],
    condition: int,
    count: int,
    tokens: int,
) -> InForm:
    """How many of the answers to the first `count` prompts `form` is found in."""
    texts = {
        row["prompt"]: row["text"]
        for row in rows
        if row["condition"] == condition and row["prompt"] < count and row["tokens"] == tokens
    }
    return InForm(sum(bool(form.search(text.strip())) for text in texts.values()), len(texts))


def _key(row: Mapping[str, Any]) -> tuple[int, int, int]:
    return row["condition"], row["prompt"], row["tokens"]
