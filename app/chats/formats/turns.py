"""OpenAI's messages and ShareGPT's conversations: turns without branches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from openchat_local.app.chats.drafts import ChatDraft, MessageDraft
from openchat_local.app.chats.formats import findings as found
from openchat_local.app.chats.formats.checks import MESSAGE_FIELDS, at
from openchat_local.app.chats.formats.content import joined, text_of_part, tool_answer, tool_call
from openchat_local.app.chats.formats.findings import Findings, cleaned
from openchat_local.models.conversation import Role

ROLE_WORDS: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "claude": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "ai": "assistant",
    "model": "assistant",
}
_CALLS = frozenset({"function_call", "tool_call", "tool_calls"})
_ANSWERS = frozenset(
    {"tool", "function", "observation", "ipython", "function_response", "tool_response"}
)
_FIGURES = ("rating", "rating_reason", "edited", "finish_reason", "model", "adapter", "condition")


class Turns(NamedTuple):
    """How a format names the turns of a chat, and their roles and texts."""

    turns: str
    role: str
    content: str


OPENAI = Turns("messages", "role", "content")
SHAREGPT = Turns("conversations", "from", "value")


def linear_chat(
    place: str, value: dict[str, Any], names: Turns, findings: Findings
) -> ChatDraft | None:
    """A chat without branches; a system turn at its head is its system prompt. None for one
    without a turn."""
    title = value.get("title") or ""
    if not isinstance(title, str):
        findings.fault(f"{at(place, 'title')} is not text")
        title = ""
    turns = value[names.turns]
    if not isinstance(turns, list):
        findings.fault(f"{at(place, names.turns)} is not a list of turns")
        return None
    if not turns:
        findings.note(found.EMPTY, place)
        return None
    read = []
    for i, turn in enumerate(turns):
        where = at(place, f"{names.turns}[{i}]")
        if isinstance(turn, dict):
            read.append(_Turn(turn, names, where, findings).message(i - 1 if i else None))
        else:
            findings.fault(f"{where} is not an object")
    fields = {"title": cleaned(title, at(place, "title"), findings)} if title else {}
    if read and read[0].role == "system":
        fields["system_prompt"] = read.pop(0).content
        read = [
            MessageDraft(each.role, each.content, i - 1 if i else None, each.fields)
            for i, each in enumerate(read)
        ]
    return ChatDraft(tuple(read), fields)


class _Turn:
    """One turn and where it is."""

    def __init__(self, turn: dict[str, Any], names: Turns, place: str, findings: Findings) -> None:
        self._turn = turn
        self._names = names
        self._place = place
        self._findings = findings
        word = turn.get(names.role)
        self._word = word.strip().lower() if isinstance(word, str) else ""

    def message(self, parent: int | None) -> MessageDraft:
        role = self._role()
        content = cleaned(self._content(), self._place, self._findings)
        if self._word in _ANSWERS:
            self._findings.note(found.TOOL_ANSWER, self._place)
            content = tool_answer(content)
        return MessageDraft(role, content, parent, self._figures() if role == "assistant" else {})

    def _role(self) -> Role:
        word = self._word
        if word in _CALLS:
            return "assistant"
        if word in _ANSWERS:
            return "user"
        if word not in ROLE_WORDS:
            known = ", ".join(ROLE_WORDS)
            given = _shown(self._turn.get(self._names.role))
            self._findings.fault(f"{self._place}.{self._names.role} is {given}, not one of {known}")
        return ROLE_WORDS.get(word, "user")

    def _content(self) -> str:
        calls = self._calls()
        content = self._turn.get(self._names.content)
        where = f"{self._place}.{self._names.content}"
        if isinstance(content, list):  # OpenAI's content parts
            texts = []
            for i, part in enumerate(content):
                text = text_of_part(part, f"{where}[{i}]", self._findings)
                if text is None:
                    self._findings.fault(f"{where}[{i}] is not a part with text")
                texts.append(text or "")
            return joined([*texts, *calls])
        if not isinstance(content, str):
            if not (content is None and calls):
                self._findings.fault(f"{where} is not text")
            content = ""
        elif self._word in _CALLS:
            self._findings.note(found.TOOL_CALL, self._place)
        return joined([content, *calls])

    def _calls(self) -> list[str]:
        """The calls of tools beside the text."""
        several = self._turn.get("tool_calls")
        calls = [self._turn.get("function_call"), *(several if isinstance(several, list) else ())]
        calls = [call for call in calls if isinstance(call, Mapping)]
        return [tool_call(call, self._place, self._findings) for call in calls]

    def _figures(self) -> dict[str, Any]:
        """What our own JSONL says of a reply."""
        figures = {}
        for name in _FIGURES:
            value = self._turn.get(name)
            if value is None:
                continue
            if MESSAGE_FIELDS[name].accepts(value):
                figures[name] = value
            else:
                self._findings.note(found.UNKNOWN_FIGURE, f"{self._place}.{name}")
        return figures


def _shown(word: object) -> str:
    return "missing" if word is None else json.dumps(word)[:40]
