"""/openapi.json and /docs: what there is to ask, from the types that read it. No page of this
server takes anything from another host."""

from __future__ import annotations

from html import escape
from typing import Any

from pydantic.json_schema import models_json_schema
from starlette.responses import HTMLResponse

from openchat_local.app.server.bodies import (
    ChatBody,
    CompletionBody,
    DetokenizeBody,
    EmbeddingBody,
    TokenizeBody,
)
from openchat_local.app.server.responses import Json
from openchat_local.app.server.state import Serving

_REF = "#/components/schemas/{model}"
_POSTED: dict[str, tuple[str, type[Any]]] = {
    "/v1/chat/completions": ("Answer a conversation.", ChatBody),
    "/v1/completions": (
        "Continue a text, or say how likely it is (echo, logprobs).",
        CompletionBody,
    ),
    "/v1/embeddings": ("The vectors of texts.", EmbeddingBody),
    "/tokenize": ("The token ids of a text or a conversation.", TokenizeBody),
    "/detokenize": ("The text of token ids.", DetokenizeBody),
}
_GOT = {
    "/v1/models": "The model, and with each of its adapters another.",
    "/v1/models/{id}": "One of them.",
    "/health": "Whether the server is at work; needs no key.",
    "/metrics": "Counts for Prometheus.",
    "/props": "The context's size, slots and defaults, by llama-server's names.",
    "/tokenizer_info": "What a client has to know of the vocabulary.",
}
_STREAMED = ("/v1/chat/completions", "/v1/completions")
_MODEL = "id", "object", "created", "owned_by", "parent", "condition", "rewards"
_COMPLETION = "id", "object", "created", "model", "system_fingerprint", "choices", "usage"
_HAS: dict[str, tuple[str, ...]] = {
    "/v1/chat/completions": _COMPLETION,
    "/v1/completions": _COMPLETION,
    "/v1/embeddings": ("object", "model", "data", "usage"),
    "/tokenize": ("tokens", "count", "max_model_len"),
    "/detokenize": ("prompt", "content"),
    "/v1/models": ("object", "data"),
    "/v1/models/{id}": _MODEL,
    "/health": ("status",),
    "/props": ("default_generation_settings", "n_ctx", "total_slots", "chat_template"),
    "/tokenizer_info": ("vocab_size", "bos_token", "eos_token", "chat_template"),
}
"""What every answer has."""
_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
            "required": ["message", "type", "param", "code"],
        }
    },
    "required": ["error"],
}
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}"
    "code,pre{font-family:ui-monospace,monospace}table{border-collapse:collapse;width:100%}"
    "td{text-align:left;vertical-align:top;padding:.2rem .8rem .2rem 0;border-top:1px solid #ccc}"
    "summary{cursor:pointer;margin:.6rem 0}"
)


async def openapi(serving: Serving) -> Json:
    """The description of all paths."""
    return Json(description())


async def docs_page(serving: Serving) -> HTMLResponse:
    """The same to read."""
    policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
    return HTMLResponse(_page(description()), headers=policy)


def description() -> dict[str, Any]:
    """OpenAPI 3.1."""
    from openchat_local import __version__

    bodies = [(body, "validation") for _, body in _POSTED.values()]
    schemas = models_json_schema(bodies, ref_template=_REF)[1]["$defs"]  # type: ignore[arg-type]
    paths: dict[str, Any] = {}
    for path, (says, body) in _POSTED.items():
        ref = {"$ref": _REF.format(model=body.__name__)}
        sent = {"required": True, "content": {"application/json": {"schema": ref}}}
        paths[path] = {"post": {"summary": says, "requestBody": sent, "responses": _answers(path)}}
    for path, says in _GOT.items():
        paths[path] = {"get": {"summary": says, "responses": _answers(path)}}
    paths["/v1/models/{id}"]["get"]["parameters"] = [
        {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    ]
    return {
        "openapi": "3.1.0",
        "info": {"title": "openchat-local", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {**schemas, "Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _answers(path: str) -> dict[str, Any]:
    """What may come back."""
    content: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
    if path in _HAS:
        schema = {"type": "object", "required": [*_HAS[path]]}
        content = {"application/json": {"schema": schema}}
    says = "The answer."
    if path in _STREAMED:
        says = "The answer; server-sent events where `stream` is true."
        content["text/event-stream"] = {"schema": {"type": "string"}}
    error = {"application/json": {"schema": {"$ref": _REF.format(model="Error")}}}
    return {
        "200": {"description": says, "content": content},
        "default": {"description": "An error, as a sentence.", "content": error},
    }


def _page(api: dict[str, Any]) -> str:
    parts = []
    for path, methods in api["paths"].items():
        for method, about in methods.items():
            head = f"<code>{method.upper()} {escape(path)}</code>: {escape(about['summary'])}"
            rows = _rows(api, about) if method == "post" else ""
            parts.append(f"<details><summary>{head}</summary>{rows}</details>" if rows else
                         f"<p>{head}</p>")  # fmt: skip
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>openchat-local</title>'
        f"<style>{_STYLE}</style><h1>openchat-local serves</h1>"
        f"<p>Version {escape(api['info']['version'])}. The same for programs: "
        f'<a href="/openapi.json">openapi.json</a>.</p>{"".join(parts)}</html>'
    )


def _rows(api: dict[str, Any], about: dict[str, Any]) -> str:
    ref = about["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    schema = api["components"]["schemas"][ref.rpartition("/")[2]]
    needed = schema.get("required", [])
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_type(field))}"
        f"{', needed' if name in needed else ''}</td>"
        f"<td>{escape(field.get('description', ''))}</td></tr>"
        for name, field in schema["properties"].items()
    )
    return f"<table>{rows}</table>"


def _type(field: dict[str, Any]) -> str:
    kinds = [one for one in field.get("anyOf", [field]) if one.get("type") != "null"]
    names = [one.get("type") or one.get("$ref", "any").rpartition("/")[2] for one in kinds]
    return " or ".join(dict.fromkeys(names))
