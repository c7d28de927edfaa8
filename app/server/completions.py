"""/v1/completions: text or token ids, continued as they stand; with echo, how likely they are."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from openchat_local.app.server.bodies import CompletionBody, header_of_ignored, read_body
from openchat_local.app.server.errors import refused, told
from openchat_local.app.server.likelihoods import (
    completion_logprobs,
    pieces_for,
    shown_tokens,
)
from openchat_local.app.server.prompts import Prompt, prompts_of
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
from openchat_local.app.server.shapes import (
    DONE,
    STILL_HERE,
    Envelope,
    counts,
    event,
    usage_of,
    why,
)
from openchat_local.app.server.state import Serving
from openchat_local.models.conversation import Conversation
from openchat_local.models.engine.protocol import (
    AdapterChoice,
    Finished,
    GenerationRequest,
    Heartbeat,
    Score,
    ScoreRequest,
    TextDelta,
    Usage,
)
from openchat_local.models.errors import OpenChatError

_USUAL_TOKENS = 16  # OpenAI's, where max_tokens is not given


@dataclass(frozen=True, slots=True)
class Asked:
    """A completion that is understood: `prompts`, each continued `n` times. `top` is how many
    of the likeliest tokens are to be told, None where no likelihood is."""

    model: str
    adapter: AdapterChoice
    prompts: Sequence[Prompt]
    n: int
    requests: Sequence[GenerationRequest]
    most_tokens: int | None
    greedy: bool
    echo: bool
    top: int | None
    stream: bool
    counted: bool
    fingerprint: str
    ignored: Sequence[str]

    @property
    def only_scored(self) -> bool:
        """Whether nothing has to be generated: what follows greedily, one token at most, is known
        from the likelihoods."""
        few = self.most_tokens is not None and self.most_tokens <= 1
        return self.echo and self.top is not None and few and self.greedy and self.n == 1

    def prompt(self, number: int) -> Prompt:
        """That of a choice by its number."""
        return self.prompts[number // self.n]


async def completions(serving: Serving, data: bytes) -> Json | EventStream:
    """Continue prompts. Raises ApiError."""
    body = read_body(data, CompletionBody)
    try:
        asked = await serving.bridge.ask(lambda: _understood(serving, body))
        headers = header_of_ignored([*asked.ignored])
        if asked.only_scored:
            answer = await _scored(serving, asked)
        elif asked.stream and asked.top is None:
            events = all_events(serving, asked.requests)
            first = await begun(events)
            return EventStream(_streamed(asked, first, events), headers)
        else:
            answer = await _written(serving, asked)
    except OpenChatError as error:
        raise told(error, serving.loaded.context) from error
    if asked.stream:
        return EventStream(_told_at_the_end(asked, answer), headers)
    return Json(answer, headers)


def _understood(serving: Serving, body: CompletionBody) -> Asked:
    model = serving.models.find(body.model)
    sampling = sampling_of(body, serving.sampling)
    if body.max_tokens is None:
        sampling = sampling_of(
            body.model_copy(update={"max_tokens": _USUAL_TOKENS}), serving.sampling
        )
    if sampling.max_tokens == 0 and not body.echo:
        raise refused("max_tokens: nothing is asked for; 0 goes with echo.", "max_tokens")
    bos = body.add_special_tokens is not False
    prompts = prompts_of(serving, body.prompt, "prompt", bos=bos)
    n, biases = body.n or 1, body.biases()
    interval = update_interval(serving, streamed=bool(body.stream))
    requests = [
        GenerationRequest(
            Conversation(()),
            another_seed(sampling, number),
            update_interval=interval,
            adapter=model.choice,
            prompt_ids=prompt.whole,
            logit_bias=biases,
        )
        for prompt in prompts
        for number in range(n)
    ]
    return Asked(
        model=model.id,
        adapter=model.choice,
        prompts=prompts,
        n=n,
        requests=requests,
        most_tokens=sampling.max_tokens,
        greedy=sampling.temperature <= 0 and sampling.repeat_penalty == 1.0 and not biases,
        echo=bool(body.echo),
        top=body.logprobs,
        stream=bool(body.stream),
        counted=bool(body.stream_options and body.stream_options.include_usage),
        fingerprint=model.fingerprint(serving.models.condition),
        ignored=body.ignored(),
    )


def _envelope(asked: Asked) -> Envelope:
    return Envelope("cmpl", "text_completion", asked.model, asked.fingerprint)


# What a prompt's tokens are, and the one that follows: nothing is generated.


async def _scored(serving: Serving, asked: Asked) -> dict[str, Any]:
    """One pass over each prompt. A token of no meaning stands at its end: what the model makes of
    its place is what follows the prompt."""
    size = serving.loaded.context
    for prompt in asked.prompts:
        if len(prompt.whole) >= size:
            raise refused(
                f"The prompt is {len(prompt.whole):,} tokens long and this server's context holds "
                f"{size:,}: shorten it, or restart the server with a larger --context.",
                "prompt",
                "context_length_exceeded",
            )
    requests = [
        ScoreRequest(
            prompt.whole[:1], (*prompt.whole[1:], prompt.whole[0]), max(1, asked.top or 0),
            asked.adapter,
        )
        for prompt in asked.prompts
    ]  # fmt: skip
    scores = await _scores(serving, requests)
    pieces = await pieces_for(serving, scores, [id for one in asked.prompts for id in one.whole])
    choices, generated = [], 0
    for number, (prompt, score) in enumerate(zip(asked.prompts, scores, strict=True)):
        values: list[float | None] = [None, *score.log_probabilities[:-1]]
        top: list[Sequence[tuple[int, float]] | None] = [None, *score.top[:-1]]
        ids, text = list(prompt.whole), prompt.text
        ended = False
        if asked.most_tokens:
            following, value = score.top[-1][0]
            ids, values, top = [*ids, following], [*values, value], [*top, score.top[-1]]
            ended = following in serving.vocabulary.ends
            text += "" if ended else pieces[following].decode("utf-8", "replace")
            generated += 1
        left_out = prompt.added
        likely = completion_logprobs(
            ids[left_out:], values[left_out:], top[left_out:], pieces, asked.top or 0
        )
        reason = "stop" if ended else "length"
        choices.append({"index": number, "text": text, "logprobs": likely, "finish_reason": reason})
    total = sum(len(prompt.whole) for prompt in asked.prompts)
    shared = min(total, sum(score.shared_tokens for score in scores))
    return _envelope(asked).around(choices, usage=counts(total, generated, shared))


async def _scores(serving: Serving, requests: list[ScoreRequest]) -> list[Score]:
    with serving.places.reserved(1):
        async with serving.places.turn():
            return await serving.bridge.scores(requests)


# What is generated


async def _written(serving: Serving, asked: Asked) -> dict[str, Any]:
    replies = await written(serving, asked.requests)
    likely: list[dict[str, Any] | None] = [None] * len(replies)
    if asked.top is not None:
        likely = await _likely(serving, asked, replies)
    choices = [
        {
            "index": number,
            "text": (asked.prompt(number).text if asked.echo else "") + reply.text,
            "logprobs": likely[number],
            "finish_reason": why(reply.finished),
        }
        for number, reply in enumerate(replies)
    ]
    usage = _usage(asked, [reply.finished.usage for reply in replies])
    return _envelope(asked).around(choices, usage=usage)


async def _likely(
    serving: Serving, asked: Asked, replies: Sequence[Written]
) -> list[dict[str, Any] | None]:
    requests = []
    for number, reply in enumerate(replies):
        whole, new = asked.prompt(number).whole, reply.finished.token_ids
        before, after = (whole[:1], (*whole[1:], *new)) if asked.echo else (whole, new)
        requests.append(ScoreRequest(before, after, asked.top or 0, asked.adapter))
    scores = await _scores(serving, requests)
    pieces = await pieces_for(serving, scores, [id for one in asked.prompts for id in one.whole])
    found: list[dict[str, Any] | None] = []
    for number, (reply, score) in enumerate(zip(replies, scores, strict=True)):
        prompt, new = asked.prompt(number), reply.finished.token_ids
        ids: list[int] = list(score.ids)
        values: list[float | None] = list(score.log_probabilities)
        top: list[Sequence[tuple[int, float]] | None] = list(score.top)
        if asked.echo:
            ids, values, top = [prompt.whole[0], *ids], [None, *values], [None, *top]
        begin = prompt.added if asked.echo else 0
        end = len(ids) - len(new) + shown_tokens(new, pieces, reply.text)
        found.append(
            completion_logprobs(
                ids[begin:end], values[begin:end], top[begin:end], pieces, asked.top or 0
            )
        )
    return found


def _usage(asked: Asked, usages: Sequence[Usage]) -> dict[str, Any]:
    """Each prompt is counted once, however often it was continued."""
    first = list(usages[:: asked.n])
    rest = [usage for number, usage in enumerate(usages) if number % asked.n]
    return usage_of([*first, *rest], prompts=len(first))


async def _streamed(
    asked: Asked, first: Sequence[Numbered], events: AsyncGenerator[Numbered, None]
) -> AsyncGenerator[bytes, None]:
    envelope = _envelope(asked)
    more: dict[str, Any] = {"usage": None} if asked.counted else {}

    def chunk(number: int, text: str, reason: str | None = None) -> bytes:
        choice = {"index": number, "text": text, "logprobs": None, "finish_reason": reason}
        return event(envelope.around([choice], **more))

    usages: dict[int, Usage] = {}

    def told_of(number: int, happened: object) -> bytes | None:
        if isinstance(happened, TextDelta):
            return chunk(number, happened.text)
        if isinstance(happened, Finished):
            usages[number] = happened.usage
            return chunk(number, "", why(happened))
        return STILL_HERE if isinstance(happened, Heartbeat) else None

    async with aclosing(events):
        for number in range(len(asked.requests)) if asked.echo else ():
            yield chunk(number, asked.prompt(number).text)
        for number, happened in first:
            if (part := told_of(number, happened)) is not None:
                yield part
        async for number, happened in events:
            if (part := told_of(number, happened)) is not None:
                yield part
    if asked.counted:
        counted = _usage(asked, [usages[number] for number in sorted(usages)])
        yield event(envelope.around([], usage=counted))
    yield DONE


async def _told_at_the_end(asked: Asked, answer: dict[str, Any]) -> AsyncGenerator[bytes, None]:
    """A whole answer as a stream: likelihoods are known once a reply is written."""
    usage = answer.pop("usage")
    more: dict[str, Any] = {"usage": None} if asked.counted else {}
    for choice in answer["choices"]:
        yield event(answer | {"choices": [choice]} | more)
    if asked.counted:
        yield event(answer | {"choices": [], "usage": usage})
    yield DONE
