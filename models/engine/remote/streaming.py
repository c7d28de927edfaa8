"""What a server streams becomes text, counts, and a reason why the reply ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from openchat_local.models.engine.protocol import FinishReason

BEGIN_OF_THOUGHT, END_OF_THOUGHT = "<think>\n", "\n</think>\n\n"
_THOUGHTS = ("reasoning_content", "reasoning")
_NOTES = {
    "content_filter": "The server's filter ended the reply.",
    "tool_calls": "The model wanted to call a tool, and has none here.",
    "function_call": "The model wanted to call a tool, and has none here.",
}


@dataclass(slots=True)
class Reading:
    """A reply as far as it has come. Thoughts that a server tells apart stand at its head, as
    models write them: <think>…</think>. `chunks` counts the pieces of text."""

    chunks: int = 0
    said: str | None = None
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    cached_tokens: int = 0
    written: bool = False
    _thinking: bool = field(default=False)

    def take(self, chunk: Mapping[str, Any]) -> str:
        """The text that a chunk adds, "" for none."""
        self._count(chunk.get("usage"))
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return ""
        part = choice.get("delta") or choice.get("message")
        text = self._text(part) if isinstance(part, dict) else ""
        if isinstance(reason := choice.get("finish_reason"), str):
            self.said = reason
            text += self._end_thought()
        if text:
            self.chunks += 1
            self.written = True
        return text

    def _text(self, part: Mapping[str, Any]) -> str:
        thought = next((part[name] for name in _THOUGHTS if isinstance(part.get(name), str)), "")
        content = part.get("content")
        text = ""
        if thought:
            text = thought if self._thinking else BEGIN_OF_THOUGHT + thought
            self._thinking = True
        if isinstance(content, str) and content:
            text += self._end_thought() + content
        return text

    def _end_thought(self) -> str:
        thinking, self._thinking = self._thinking, False
        return END_OF_THOUGHT if thinking else ""

    def _count(self, usage: object) -> None:
        if not isinstance(usage, dict):
            return
        self.prompt_tokens = _count(usage.get("prompt_tokens"), self.prompt_tokens)
        self.generated_tokens = _count(usage.get("completion_tokens"), self.generated_tokens)
        details = usage.get("prompt_tokens_details")
        if isinstance(details, dict):
            self.cached_tokens = _count(details.get("cached_tokens"), None) or 0

    @property
    def reason(self) -> FinishReason | None:
        """Why it ended; None where it did not end by itself."""
        if self.said is None:
            return None
        return "length" if self.said == "length" else "stop"

    @property
    def note(self) -> str | None:
        """What the user should know of its end."""
        return _NOTES.get(self.said or "")


def _count(value: object, otherwise: int | None) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 2**31 else otherwise
