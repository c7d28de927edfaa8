"""/v1/chat/completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from openchat_local.app.server.bodies import ChatBody, header_of_ignored, read_body
from openchat_local.app.server.conversations import conversation_of, goes_on
from openchat_local.app.server.errors import refused, told
from openchat_local.app.server.likelihoods import chat_logprobs, pieces_for
from openchat_local.app.server.messages import MessageReader, message_of
from openchat_local.app.server.replies import (
    Numbered,
    Written,
    all_events,
    begun,
    update_interval,
    written,
)
from openchat_local.app.server.responses import EventStream, Json
from openchat_local.app.server.sampling import another_seed, sampling_of
from openchat_local.app.server.shapes import DONE, STILL_HERE, Envelope, event, usage_of, why
from openchat_local.app.server.state import Serving
from openchat_local.app.server.tools import Tools, tools_of
from openchat_local.models.conversation import Conversation
from openchat_local.models.engine.protocol import (
    AdapterChoice,
    Finished,
    GenerationRequest,
    Heartbeat,
    ScoreRequest,
    TextDelta,
    Usage,
)
from openchat_local.models.errors import OpenChatError
from openchat_local.models.thoughts import ThoughtMarks


@dataclass(frozen=True, slots=True)
class Asked:
    """A chat completion that is understood. `top` is how many of the likeliest tokens are to be
    told for each of the reply's, None where nothing is. `thoughts` are the model's marks, `tools`
    what it may call."""

    model: str
    conversation: Conversation
    requests: Sequence[GenerationRequest]
    top: int | None
    stream: bool
    counted: bool
    fingerprint: str
    ignored: Sequence[str]
    thoughts: ThoughtMarks | None
    tools: Tools

    @property
    def adapter(self) -> AdapterChoice | None:
        return self.requests[0].adapter


async def chat_completions(serving: Serving, data: bytes) -> Json | EventStream:
    """Answer a conversation. Raises ApiError."""
    body = read_body(data, ChatBody)
    asked = await serving.bridge.ask(lambda: _understood(serving, body))
    headers = header_of_ignored([*asked.ignored])
    if not asked.stream:
        return Json(await _answer(serving, asked), headers)
    if asked.top is not None:
        return EventStream(_told_at_the_end(asked, await _answer(serving, asked)), headers)
    events = all_events(serving, asked.requests)
    first = await begun(events)
    return EventStream(_streamed(asked, first, events), headers)


def _understood(serving: Serving, body: ChatBody) -> Asked:
    model = serving.models.find(body.model)
    condition = serving.models.condition_for(body.condition)
    thoughts, tools = serving.loaded.thoughts, tools_of(body, serving.loaded.tools)
    sampling = sampling_of(body, serving.sampling)
    conversation = replace(
        conversation_of(body.messages, condition, thoughts),
        thinking=sampling.thinking,
        tools=tools.declared,
    )
    continues = goes_on(conversation)
    _refuse_together(body, tools, continues=continues)
    if tools.schema is not None:  # it is a call from its first token on
        sampling = replace(sampling, json_schema=tools.schema)
        conversation = replace(conversation, thinking=False, must_call=True)
    interval = update_interval(serving, streamed=bool(body.stream and not body.logprobs))
    kept = body.cache_prompt is not False
    key = serving.remembered.key_of(conversation) if kept else None
    requests = [
        GenerationRequest(
            conversation,
            another_seed(sampling, number),
            chat_key=None if number else key,
            update_interval=interval,
            continues=continues,
            adapter=model.choice,
            logit_bias=body.biases(),
        )
        for number in range(body.n or 1)
    ]
    return Asked(
        model.id,
        conversation,
        requests,
        (body.top_logprobs or 0) if body.logprobs else None,
        bool(body.stream),
        bool(body.stream_options and body.stream_options.include_usage),
        model.fingerprint(condition),
        [*body.ignored(), *_without_effect(serving, body, condition)],
        thoughts,
        tools,
    )


def _refuse_together(body: ChatBody, tools: Tools, *, continues: bool) -> None:
    """Raise ApiError for what is good by itself alone."""
    if body.top_logprobs is not None and not body.logprobs:
        raise refused("top_logprobs needs logprobs to be true.", "top_logprobs")
    if body.logprobs and continues:
        raise refused("logprobs are not told of a message that is continued.", "logprobs")
    if tools.schema is not None and continues:
        raise refused("tool_choice: a message that is continued is no call.", "tool_choice")


def _without_effect(serving: Serving, body: ChatBody, condition: str | None) -> Iterator[str]:
    """What is understood, and changes nothing with this model."""
    if body.condition and not condition:
        yield "condition"
    loaded = serving.loaded
    if body.thinking() is not None and loaded.thoughts and not loaded.thinking_switch:
        yield "chat_template_kwargs" if body.chat_template_kwargs else "reasoning_effort"
    elif body.reasoning_effort not in (None, "none"):
        yield "reasoning_effort"


async def _answer(serving: Serving, asked: Asked) -> dict[str, Any]:
    replies = await written(serving, asked.requests)
    likely = await _logprobs(serving, asked, replies)
    envelope = Envelope("chatcmpl", "chat.completion", asked.model, asked.fingerprint)
    messages = [message_of(reply.text, asked.thoughts, asked.tools) for reply in replies]
    choices = [
        {
            "index": number,
            "message": messages[number],
            "logprobs": likely[number],
            "finish_reason": why(reply.finished, calls="tool_calls" in messages[number]),
        }
        for number, reply in enumerate(replies)
    ]
    usage = usage_of([reply.finished.usage for reply in replies])
    return envelope.around(choices, usage=usage)


async def _logprobs(
    serving: Serving, asked: Asked, replies: Sequence[Written]
) -> list[dict[str, Any] | None]:
    """The replies' tokens are scored once they are written: what the model makes of them, before
    samplers have their say."""
    if asked.top is None:
        return [None] * len(replies)
    scored = [
        ScoreRequest(asked.conversation, reply.finished.token_ids, asked.top, asked.adapter)
        for reply in replies
    ]
    try:
        with serving.places.reserved(1):
            async with serving.places.turn():
                scores = await serving.bridge.scores(scored)
        pieces = await pieces_for(serving, scores)
    except OpenChatError as error:
        raise told(error, serving.loaded.context) from error
    told_of = [
        chat_logprobs(score, pieces, asked.top, reply.text)
        for score, reply in zip(scores, replies, strict=True)
    ]
    for of_one, reply in zip(told_of, replies, strict=True):  # of what it says
        del of_one["content"][: reply.finished.usage.reasoning_tokens]
    return [*told_of]


async def _streamed(
    asked: Asked, first: Sequence[Numbered], events: AsyncGenerator[Numbered, None]
) -> AsyncGenerator[bytes, None]:
    envelope = Envelope("chatcmpl", "chat.completion.chunk", asked.model, asked.fingerprint)
    more: dict[str, Any] = {"usage": None} if asked.counted else {}

    def chunk(number: int, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": number, "delta": delta, "logprobs": None, "finish_reason": reason}
        return event(envelope.around([choice], **more))

    usages: dict[int, Usage] = {}
    readers = [MessageReader(asked.thoughts, asked.tools) for _ in asked.requests]
    async with aclosing(events):
        for number in range(len(asked.requests)):
            yield chunk(number, {"role": "assistant", "content": ""})
        async for number, happened in _chained(first, events):
            if isinstance(happened, TextDelta):
                for delta in readers[number].feed(happened.text):
                    yield chunk(number, delta)
            elif isinstance(happened, Finished):
                usages[number] = happened.usage
                for delta in readers[number].finish():
                    yield chunk(number, delta)
                yield chunk(number, {}, why(happened, calls=readers[number].calls))
            elif isinstance(happened, Heartbeat):
                yield STILL_HERE
    if asked.counted:
        yield event(envelope.around([], usage=usage_of([usages[n] for n in sorted(usages)])))
    yield DONE


async def _chained(
    first: Sequence[Numbered], events: AsyncGenerator[Numbered, None]
) -> AsyncGenerator[Numbered, None]:
    for one in first:
        yield one
    async for one in events:
        yield one


async def _told_at_the_end(asked: Asked, answer: dict[str, Any]) -> AsyncGenerator[bytes, None]:
    """A whole answer as a stream: likelihoods are known once a reply is written."""
    usage = answer.pop("usage")
    more: dict[str, Any] = {"usage": None} if asked.counted else {}
    chunk = answer | {"object": "chat.completion.chunk"} | more
    for choice in answer["choices"]:
        delta = {name: value for name, value in choice["message"].items() if name != "refusal"}
        if calls := delta.get("tool_calls"):
            delta["tool_calls"] = [{"index": n, **call} for n, call in enumerate(calls)]
        part = {"index": choice["index"], "delta": delta, "logprobs": choice["logprobs"]}
        yield event(chunk | {"choices": [part | {"finish_reason": None}]})
        end = {"index": choice["index"], "delta": {}, "logprobs": None}
        yield event(chunk | {"choices": [end | {"finish_reason": choice["finish_reason"]}]})
    if asked.counted:
        yield event(chunk | {"choices": [], "usage": usage})
    yield DONE
