"""Who speaks, in every spelling that people use."""

from __future__ import annotations

import re
from typing import Literal

Speaker = Literal["system", "user", "assistant", "call", "tool"]
"""A role of a conversation; or a call of a tool, and what came back."""

_SPEAKERS: dict[Speaker, str] = {
    "system": "system developer sys systemprompt 系统",
    "user": "user human prompter input instruction question query prompt usr person customer client"
    " student questioner asker speaker1 human1 userinput q 用户 人类",
    "assistant": "assistant gpt chatgpt bot chatbot model ai output response answer completion"
    " reply bard gemini claude bing palm llama llm openai vicuna alpaca agent assistantgpt"
    " botresponse openassistant gpt3 gpt35 gpt35turbo gpt4 gpt4turbo gpt4o gpt4omini gpt5 chatglm"
    " qwen deepseek mistral openchat speaker2 a 助手 模型",
    "call": "functioncall toolcall toolcalls toolscall",
    "tool": "tool function observation toolresponse functionresponse toolresult functionresult"
    " tooloutput functionoutput toolobservation ipython",
}
_SPEAKER_OF = {name: speaker for speaker, names in _SPEAKERS.items() for name in names.split()}
KNOWN_SHOWN = "system, user, assistant, tool and what others call them (human, gpt, …)"


def speaker_of(role: str) -> Speaker | None:
    """Who is meant: capitals, spaces, hyphens and a colon at the end do not matter."""
    return _SPEAKER_OF.get(re.sub(r"[\s_.:\-]+", "", role.casefold()))
