"""A request of ours becomes the JSON that a server takes; what it cannot do is refused, not left
out."""

from __future__ import annotations

from typing import Any

from openchat_local.models.conversation import Conversation
from openchat_local.models.engine.capabilities import RemotePlace
from openchat_local.models.engine.protocol import GenerationRequest, Sampling
from openchat_local.models.engine.remote.habits import MOST, MOST_NEW, Habits
from openchat_local.models.errors import EngineError
from openchat_local.models.thoughts import USUAL, divide

_NAMES: dict[str, dict[str, str]] = {"vllm": {"repeat_penalty": "repetition_penalty"}}


def refuse_impossible(request: GenerationRequest, remote: RemotePlace) -> None:
    """Raise EngineError for what the server could only do by leaving it out."""
    if request.prompt_ids is not None or request.logit_bias:
        raise EngineError(f"{remote.place} is asked in words, not in token ids: give a text.")
    if request.conversation.uses_tools:
        raise EngineError(f"{remote.place} is asked for text alone: leave the tools away.")
    if request.adapter is not None and request.adapter.path is not None:
        raise EngineError(remote.why_not("adapters") or "")
    if request.conversation.condition and not remote.can.conditions:
        raise EngineError(remote.why_not("conditions") or "")
    if request.continues and not remote.can.continuing:
        raise EngineError(remote.why_not("continuing") or "")


def chat_body(
    request: GenerationRequest,
    conversation: Conversation,
    model: str,
    remote: RemotePlace,
    habits: Habits = Habits(),  # noqa: B008 - frozen
) -> dict[str, Any]:
    """The body for /chat/completions, streamed; `conversation` is what of the request's fits,
    `habits` how the server wants it put. Fields of the sampling that the server does not know are
    not in it (see `RemotePlace.misses`)."""
    can = remote.can
    body: dict[str, Any] = {
        "model": model,
        "messages": messages_of(conversation, continues=request.continues),
        "stream": True,
        "stream_options": {"include_usage": True},
        **_sampling(request.sampling, remote),
    }
    seed = request.sampling.seed
    # To our own server a seed is a wish for the same again to the last bit, which costs speed.
    if seed is not None and not (request.seed_drawn and can.kind == "openchat-local"):
        body["seed"] = seed
    if request.chat_key is None and can.kind == "openchat-local":
        body["cache_prompt"] = False  # nothing on its disk, either
    if can.conditions and conversation.condition is not None:
        body["condition"] = conversation.condition
    thinking = request.sampling.thinking
    if thinking is not None and can.thinking:
        body["chat_template_kwargs"] = {"enable_thinking": thinking}
    if request.continues and can.kind == "vllm":
        body |= {"add_generation_prompt": False, "continue_final_message": True}
    return habits.applied(body)


def messages_of(conversation: Conversation, *, continues: bool = False) -> list[dict[str, str]]:
    """The turns as OpenAI's API has them. What a reply thought is nothing for the next one: it
    stays only in the turn that is to be continued."""
    turns = conversation.messages
    last = len(turns) - 1 if continues else -1
    return [
        {
            "role": turn.role,
            "content": divide(turn.content, USUAL).answer
            if turn.role == "assistant" and number != last
            else turn.content,
        }
        for number, turn in enumerate(turns)
    ]


def _sampling(sampling: Sampling, remote: RemotePlace) -> dict[str, Any]:
    can = remote.can
    found: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    for name in sorted(can.sampling):
        found[_NAMES.get(can.kind, {}).get(name, name)] = getattr(sampling, name)
    if sampling.max_tokens is not None:
        found[MOST_NEW if can.kind == "openai" else MOST] = sampling.max_tokens
    elif can.kind == "openchat-local":
        found[MOST] = -1  # else the server's own settings hold
    if sampling.stop:
        found["stop"] = list(sampling.stop)
    if sampling.json_schema is not None and sampling.json_schema is not False:
        found["response_format"] = _format(sampling.json_schema)
    return found


def _format(schema: dict[str, Any] | bool) -> dict[str, Any]:
    if not isinstance(schema, dict):
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "json_schema": {"name": "reply", "schema": schema, "strict": True},
    }
