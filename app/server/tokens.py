"""/tokenize, /detokenize, /tokenizer_info and /props: names that vLLM and llama-server use."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from openchat_local.app.server.bodies import (
    DetokenizeBody,
    TokenizeBody,
    header_of_ignored,
    read_body,
)
from openchat_local.app.server.conversations import conversation_of
from openchat_local.app.server.errors import refused, told
from openchat_local.app.server.prompts import text_of, with_bos
from openchat_local.app.server.responses import Json
from openchat_local.app.server.state import Serving
from openchat_local.app.server.tools import declarations
from openchat_local.models.errors import OpenChatError
from openchat_local.models.gguf import read_gguf


async def tokenize(serving: Serving, data: bytes) -> Json:
    """The ids of a text, in which control tokens are text, or of a conversation as the model
    reads it. Raises ApiError."""
    body = read_body(data, TokenizeBody)
    ignored = header_of_ignored(body.ignored())
    ids = await serving.bridge.ask(lambda: _ids(serving, body))
    answer = {
        "tokens": list(ids),
        "count": len(ids),
        "max_model_len": serving.loaded.context,
    }
    return Json(answer, ignored)


def _ids(serving: Serving, body: TokenizeBody) -> tuple[int, ...]:
    model = serving.models.find(body.model)
    try:
        if body.messages is not None:
            conversation = conversation_of(body.messages, body.condition, serving.loaded.thoughts)
            if conversation.condition is None:
                conversation = replace(conversation, condition=model.condition)
            if body.tools:
                declared = json.dumps(declarations(body.tools), ensure_ascii=False)
                conversation = replace(conversation, tools=declared)
            return serving.engine.render(conversation).ids
        text = body.prompt if body.prompt is not None else body.content
        if text is None:
            raise refused("prompt is missing: give a text, or messages.", "prompt")
        ids = serving.engine.tokenize(text)
    except OpenChatError as error:
        raise told(error, serving.loaded.context) from error
    return ids if body.add_special_tokens is False else with_bos(serving, ids)


async def detokenize(serving: Serving, data: bytes) -> Json:
    """The text that ids say. Raises ApiError."""
    body = read_body(data, DetokenizeBody)
    ignored = header_of_ignored(body.ignored())
    try:
        text = await serving.bridge.ask(lambda: text_of(serving, tuple(body.tokens)))
    except OpenChatError as error:
        raise told(error, serving.loaded.context) from error
    return Json({"prompt": text, "content": text}, ignored)


async def tokenizer_info(serving: Serving) -> Json:
    """What a client has to know of the vocabulary."""
    facts = serving.vocabulary
    return Json(
        {
            "tokenizer_class": "openchat-local",
            "vocab_size": facts.size,
            "bos_token": facts.bos,
            "bos_token_id": facts.bos_id,
            "eos_token": facts.eos,
            "eos_token_id": facts.eos_id,
            "add_bos_token": facts.adds_bos,
            "add_eos_token": False,
            "model_max_length": serving.loaded.context,
            "chat_template": await serving.bridge.ask(lambda: _own_template(serving)),
        }
    )


async def props(serving: Serving) -> Json:
    """The server's properties, by llama-server's names."""
    from openchat_local import __version__

    loaded, facts = serving.loaded, serving.vocabulary
    sampling = serving.sampling
    settings: dict[str, Any] = {
        "n_ctx": loaded.context,
        "params": {
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "repeat_penalty": sampling.repeat_penalty,
            "n_predict": -1 if sampling.max_tokens is None else sampling.max_tokens,
        },
    }
    return Json(
        {
            "default_generation_settings": settings,
            "n_ctx": loaded.context,
            "n_ctx_train": loaded.context_trained,
            "total_slots": loaded.sequences,
            "model_alias": loaded.name,
            "chat_template": await serving.bridge.ask(lambda: _own_template(serving)),
            "template": loaded.template,
            "thinks": loaded.thoughts is not None,
            "thinking_switch": loaded.thinking_switch,
            "bos_token": facts.bos,
            "eos_token": facts.eos,
            "build_info": f"openchat-local {__version__}",
        }
    )


def _own_template(serving: Serving) -> str | None:
    return read_gguf(serving.loaded.path).chat_template
