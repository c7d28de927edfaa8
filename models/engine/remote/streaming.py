"""What a server streams becomes text, counts, and a reason why the reply ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openchat_local.models.engine.protocol import FinishReason
from openchat_local.models.thoughts import USUAL

BEGIN_OF_THOUGHT, END_OF_THOUGHT = f"{USUAL.opens}\n", f"\n{USUAL.closes}\n\n"
_THOUGHTS = ("reasoning_content", "reasoning")
_NOTES = {
    "content_filter": "The server's filter ended the reply.",
    "tool_calls": "The model wanted to call a tool, and has none here.",
    "function_call": "The model wanted to call a tool, and has none here.",
}


@dataclass(slots=True)
class Reading:
    """A reply as far as it has come. Thoughts that a server tells apart stand at its head, as
    models write them: <think>…</think>. `chunks` counts the pieces of text; `thinking` says whether
    its thoughts have begun, by what the server tells apart, and not ended."""

    chunks: int = 0
    said: str | None = None
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    written: bool = False
    thinking: bool = False
    _half: str = ""

    def take(self, chunk: Mapping[str, Any]) -> str:
        """The text that a chunk adds, "" for none."""
        self._count(chunk.get("usage"))
        text = self._whole(self._said(chunk))
        if text:
            self.chunks += 1
            self.written = True
        return text

    def _said(self, chunk: Mapping[str, Any]) -> str:
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return ""
        part = choice.get("delta") or choice.get("message")
        text = self._text(part) if isinstance(part, dict) else ""
        if isinstance(reason := choice.get("finish_reason"), str):
            self.said = reason
            text += self._end_thought()
        return text

    def _whole(self, text: str) -> str:
        """Whole characters alone: JSON can cut one that is beyond 16 bits in two."""
        text, self._half = self._half + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def _text(self, part: Mapping[str, Any]) -> str:
        thought = next((part[name] for name in _THOUGHTS if isinstance(part.get(name), str)), "")
        content = part.get("content")
        text = ""
        if thought:
            text = thought if self.thinking else BEGIN_OF_THOUGHT + thought
            self.thinking = True
        if isinstance(content, str) and content:
            text += self._end_thought() + content
        return text

    def _end_thought(self) -> str:
        thinking, self.thinking = self.thinking, False
        return END_OF_THOUGHT if thinking else ""

    def _count(self, usage: object) -> None:
        if not isinstance(usage, dict):
            return
        self.prompt_tokens = _count(usage.get("prompt_tokens"), self.prompt_tokens)
        self.generated_tokens = _count(usage.get("completion_tokens"), self.generated_tokens)
        for name, of in (("cached", "prompt"), ("reasoning", "completion")):
            details = usage.get(f"{of}_tokens_details")
            if isinstance(details, dict):
                count = _count(details.get(f"{name}_tokens"), None) or 0
                setattr(self, f"{name}_tokens", count)

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
