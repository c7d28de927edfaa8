"""What clients send, read with suspicion: which parameters there are, and what they may be."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from openchat_local.app.server.errors import ApiError, refused

MOST_TOP = 20
_MOST_STOPS = 16
_MOST_BIASES, _LARGEST_BIAS = 4096, 100.0
_MOST_NAMED = 20  # ignored parameters in a header

# Text, or what stands for it; which of them is found out by hand, for the sake of a sentence.
Content = Annotated[Any, WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array"}]})]
_Texts = Annotated[
    Any,
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}},
                {"type": "array", "items": {"type": "integer"}},
                {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
            ]
        }
    ),
]
_Stop = Annotated[
    Any, WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "maxItems": _MOST_STOPS}]})
]

# What cannot be left out without giving something else than was asked for.
_TOOLS = "functions are declared as tools of /v1/chat/completions"
_CHANGES_MEANING: Mapping[str, str] = {
    "tools": _TOOLS,
    "functions": _TOOLS,
    "function_call": _TOOLS,
    "frequency_penalty": "this engine has repeat_penalty instead",
    "presence_penalty": "this engine has repeat_penalty instead",
    "audio": "the model writes text alone",
    "suffix": "the model continues a text and fills no gap in one",
    "grammar": "give a JSON schema as response_format",
    "guided_choice": "give a JSON schema as response_format",
    "guided_grammar": "give a JSON schema as response_format",
    "guided_json": "give a JSON schema as response_format",
    "guided_regex": "give a JSON schema as response_format",
    "structured_outputs": "give a JSON schema as response_format",
    "ignore_eos": "a reply ends where the model ends it",
    "min_tokens": "a reply ends where the model ends it",
    "stop_token_ids": "give stop, which is text",
    "bad_words": "this engine bans no words",
    "web_search_options": "nothing here searches the web",
    "prompt_logprobs": "ask /v1/completions with echo and logprobs",
}
_NO_CHANGE: Mapping[str, tuple[Any, ...]] = {
    "function_call": ("none",),
    "modalities": (["text"],),
    "best_of": (1,),
}


class Body(BaseModel):
    """A request's JSON. Unknown parameters are kept apart, in `ignored`; null is not given."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False, frozen=True)
    meaningful: ClassVar[Mapping[str, str]] = {}

    def ignored(self) -> list[str]:
        """Names of what was sent and has no effect. Raises ApiError for what would have changed
        the meaning."""
        names = []
        for name, value in (self.model_extra or {}).items():
            harmless = (None, False, 0, 0.0, "", [], {}, *_NO_CHANGE.get(name, ()))
            if value in harmless:
                continue
            if name in _CHANGES_MEANING:
                raise refused(f"{name} is not supported: {_CHANGES_MEANING[name]}.", name)
            if name in _NO_CHANGE:
                raise refused(f"{name} can only be {_NO_CHANGE[name][0]!r} here.", name)
            names.append(name)
        return names


class StreamOptions(BaseModel):
    """`include_usage` adds a last event with the counts."""

    model_config = ConfigDict(extra="ignore", strict=True)
    include_usage: bool | None = None


class SamplingBody(Body):
    """What both kinds of completion have in common. What is not given is as the server's
    settings say."""

    model: str | None = Field(None, description="One of /v1/models; the server's own without.")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=10)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=-1, lt=2**31, description="0 for all tokens.")
    min_p: float | None = Field(None, ge=0, le=1)
    repeat_penalty: float | None = Field(None, gt=0, le=10)
    repetition_penalty: float | None = Field(None, gt=0, le=10, description="The same.")
    seed: int | None = Field(
        None, ge=-(2**63), lt=2**64, description="Makes the reply repeatable; negative: none."
    )
    max_tokens: int | None = Field(None, ge=-1, lt=2**31, description="-1 for no limit.")
    stop: _Stop = None
    n: int | None = Field(None, ge=1, le=128)
    logit_bias: dict[str, float] | None = Field(
        None, description="Token ids, and what is added to their logits: from -100 to 100."
    )
    user: str | None = Field(None, description="Not used.")

    def biases(self) -> tuple[tuple[int, float], ...]:
        """Ids and their biases. Raises ApiError."""
        found = (self.logit_bias or {}).items()
        if len(found) > _MOST_BIASES or any(abs(bias) > _LARGEST_BIAS for _, bias in found):
            raise refused(
                f"logit_bias can hold {_MOST_BIASES:,} tokens, and values from -100 to 100.",
                "logit_bias",
            )
        if not all(id.isascii() and id.isdigit() and len(id) < 10 for id, _ in found):
            raise refused("logit_bias: its names are token ids, as /tokenize gives.", "logit_bias")
        return tuple((int(id), bias) for id, bias in found)

    def stops(self) -> tuple[str, ...]:
        """The strings that end a reply. Raises ApiError."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if not isinstance(stop, list) or not all(isinstance(one, str) for one in stop):
            raise refused("stop must be a string or a list of strings.", "stop")
        if len(stop) > _MOST_STOPS:
            raise refused(f"stop can hold {_MOST_STOPS} strings at most.", "stop")
        return tuple(one for one in stop if one)


class ChatMessage(BaseModel):
    """One turn. The content is a string, or a list of {"type": "text", "text": …}."""

    model_config = ConfigDict(extra="allow", strict=True)
    role: str
    content: Content = None
    reasoning_content: str | None = Field(None, description="What a reply thought before it.")
    tool_calls: list[Any] | None = Field(None, description="What a reply wanted called.")
    tool_call_id: str | None = Field(None, description="Of the call that a tool's turn answers.")


class ResponseFormat(BaseModel):
    """text, json_object, or json_schema with {"schema": …} in `json_schema`."""

    model_config = ConfigDict(extra="allow", strict=True)
    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None


class ChatBody(SamplingBody):
    """Of /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=-1, lt=2**31)
    response_format: ResponseFormat | None = None
    tools: list[dict[str, Any]] | None = Field(
        None, description="Functions that the reply may call, where the model knows how."
    )
    tool_choice: Any = Field(None, description="none, auto, required, or one function.")
    parallel_tool_calls: bool | None = Field(None, description="false: one call at most.")
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MOST_TOP)
    condition: str | None = Field(
        None, description='C-RLFT condition, such as "GPT4 Correct"; "" for none.'
    )
    chat_template_kwargs: dict[str, Any] | None = Field(
        None, description='{"enable_thinking": false} asks for a reply without thoughts.'
    )
    reasoning_effort: str | None = Field(None, description='"none" asks for the same.')
    cache_prompt: bool | None = Field(
        None, description="false: the conversation's state is not kept on disk."
    )

    def thinking(self) -> bool | None:
        """Whether the reply is to think first; None where that is not said. Raises ApiError."""
        wanted = self.chat_template_kwargs or {}
        for name, value in wanted.items():
            if name not in ("enable_thinking", "thinking") or not isinstance(value, bool | None):
                raise refused(
                    "chat_template_kwargs can hold enable_thinking, true or false, and no more.",
                    f"chat_template_kwargs.{name}"[:80],
                )
        said = [value for value in wanted.values() if value is not None]
        return said[0] if said else False if self.reasoning_effort == "none" else None


class CompletionBody(SamplingBody):
    """Of /v1/completions: text or token ids that are continued as they stand."""

    prompt: _Texts
    echo: bool | None = None
    logprobs: int | None = Field(None, ge=0, le=MOST_TOP)
    add_special_tokens: bool | None = Field(
        None, description="Whether BOS is put in front where the model wants it: true."
    )


class EmbeddingBody(Body):
    """Of /v1/embeddings."""

    model: str | None = None
    input: _Texts
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    pooling: Literal["mean", "last"] | None = None
    user: str | None = None


class TokenizeBody(Body):
    """Of /tokenize: a text (`prompt`, or `content`), or `messages`."""

    model: str | None = None
    prompt: str | None = None
    content: str | None = None
    messages: list[ChatMessage] | None = None
    tools: list[dict[str, Any]] | None = None
    condition: str | None = None
    add_special_tokens: bool | None = Field(None, description="Begin with BOS: true.")


class DetokenizeBody(Body):
    """Of /detokenize."""

    model: str | None = None
    tokens: list[int]


# Where pydantic speaks of Python.
_SAID = {
    "model_type": "input should be an object",
    "dict_type": "input should be an object",
    "list_type": "input should be an array",
}
Kind = TypeVar("Kind", bound=Body)


def read_body(data: bytes, kind: type[Kind]) -> Kind:
    """The JSON object in `data`. Raises ApiError, which names the parameter at fault."""
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise refused(f"The body is not UTF-8 (byte {error.start}): send JSON in UTF-8.") from None
    except RecursionError:
        raise refused("The body is nested too deeply: send a flatter one.") from None
    except ValueError as error:
        raise refused(f"The body is not JSON ({error}): send a JSON object.") from None
    if not isinstance(value, dict):
        raise refused("The body is not a JSON object: send one, as {…}.")
    if kind is ChatBody and "messages" not in value:
        raise refused("messages is missing: send the conversation's turns.", "messages")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise _named(error) from None


def header_of_ignored(names: list[str]) -> dict[str, str]:
    """The header that tells which parameters had no effect."""
    shown = [name for name in names if re.fullmatch(r"[\w.-]{1,64}", name, re.ASCII)]
    if not names:
        return {}
    listed = ", ".join(shown[:_MOST_NAMED])
    return {"X-Ignored-Parameters": listed or f"{len(names)} without a plain name"}


def _named(error: ValidationError) -> ApiError:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    says = _SAID.get(first["type"], first["msg"])
    return refused(f"{where}: {says[:1].lower()}{says[1:]}.", where)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
