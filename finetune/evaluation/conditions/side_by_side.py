"""What contenders write under each condition, greedily, to the same prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from openchat_local.finetune.data.example import Example
from openchat_local.finetune.data.examples import read_examples, template_check
from openchat_local.finetune.data.options import DataOptions
from openchat_local.finetune.evaluation.asking import ask_all
from openchat_local.finetune.evaluation.rows import RowFile, digest_of
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.protocol import (
    AdapterChoice,
    Engine,
    GenerationRequest,
    Sampling,
)
from openchat_local.models.template import Template

Prompt = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """An answer as it is shown: its text, or why there is none."""

    text: str
    is_whole: bool
    error: str | None = None

    @property
    def shown(self) -> str:
        """What stands in the report."""
        if self.error is not None:
            return f"(none: {self.error})"
        return self.text if self.is_whole else f"{self.text} …"


def prompts_of(
    path: Path, options: DataOptions, template: Template, lines: Sequence[int], count: int
) -> list[Prompt]:
    """The first `count` different prompts of the conversations in these `lines`: all turns up
    to the first answer."""
    wanted = set(lines)
    prompts: dict[Prompt, None] = {}
    for example in read_examples(path, options.reading, template_check(template)):
        if len(prompts) >= count:
            break
        if not isinstance(example, Example) or example.line not in wanted:
            continue
        first = next(n for n, turn in enumerate(example.messages) if turn.role == "assistant")
        prompt = example.messages[:first]
        if prompt and prompt[-1].role == "user":
            prompts.setdefault(prompt)
    return list(prompts)


class Unwritten:
    """The answers that are not in the file at `path` yet: of every prompt under every condition."""

    def __init__(
        self, prompts: Sequence[Prompt], conditions: Sequence[str], path: Path, max_tokens: int
    ) -> None:
        self._path = path
        self._sampling = Sampling(temperature=0.0, max_tokens=max_tokens)
        self._keys = {
            self._key(prompt, condition): (prompt, condition)
            for prompt in prompts
            for condition in conditions
        }
        known = {row["key"] for row in RowFile(path).rows() if "key" in row}
        self._missing = [key for key in self._keys if key not in known]
        self._errors: dict[str, str] = {}  # not kept: with a larger context there may be none

    def __len__(self) -> int:
        return len(self._missing)

    def write(self, engine: Engine, choice: AdapterChoice, advance: Callable[[int], None]) -> None:
        """Have them written, and keep each. Raises EngineDied and RowsUnwritten."""
        requests = [
            GenerationRequest(Conversation(*self._keys[key]), self._sampling, adapter=choice)
            for key in self._missing
        ]
        with RowFile(self._path) as file:
            for asked in ask_all(engine, requests):
                key = self._missing[asked.index]
                if asked.error is None:
                    file.append({"key": key, "text": asked.text, "reason": asked.reason})
                else:
                    self._errors[key] = asked.error
                advance(1)

    def written(self) -> dict[tuple[Prompt, str], Written]:
        """All answers, by prompt and condition."""
        rows = {row["key"]: row for row in RowFile(self._path).rows() if "key" in row}
        return {
            what: Written("", False, self._errors[key])
            if key in self._errors
            else Written(rows[key]["text"], rows[key]["reason"] == "stop")
            for key, what in self._keys.items()
        }

    def _key(self, prompt: Prompt, condition: str) -> str:
        turns = [[turn.role, turn.content] for turn in prompt]
        return digest_of([turns, condition, self._sampling.max_tokens])
