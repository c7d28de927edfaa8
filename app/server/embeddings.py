"""/v1/embeddings."""

from __future__ import annotations

import base64
from typing import Any

from openchat_local.app.server.bodies import EmbeddingBody, header_of_ignored, read_body
from openchat_local.app.server.errors import refused, told
from openchat_local.app.server.prompts import texts_of, with_bos
from openchat_local.app.server.responses import Json
from openchat_local.app.server.state import Serving
from openchat_local.models.engine.protocol import Passage
from openchat_local.models.errors import OpenChatError


async def embeddings(serving: Serving, data: bytes) -> Json:
    """The vectors of texts, or of token ids as they are: the last hidden states' mean, of length
    one. Raises ApiError."""
    body = read_body(data, EmbeddingBody)
    ignored = header_of_ignored(body.ignored())
    if body.dimensions is not None:
        raise refused("dimensions: a vector has the model's width, and no other.", "dimensions")
    texts = [
        one if isinstance(one, str) else Passage(with_bos(serving, one))
        for one in texts_of(body.input, "input")
    ]
    if "" in texts:
        raise refused("input has a text that is empty: it has no meaning to embed.", "input")
    model = await serving.bridge.ask(lambda: serving.models.find(body.model))
    pooling, adapter = body.pooling or "mean", model.choice
    try:
        with serving.places.reserved(1):
            async with serving.places.turn():
                vectors, count = await serving.bridge.work(
                    lambda: _embedded(serving, texts, pooling, adapter)
                )
    except OpenChatError as error:
        raise told(error, serving.loaded.context) from error
    answer = {
        "object": "list",
        "model": model.id,
        "data": [
            {"object": "embedding", "index": number, "embedding": _written(vector, body)}
            for number, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": count, "total_tokens": count},
    }
    return Json(answer, ignored)


def _embedded(serving: Serving, texts: Any, pooling: Any, adapter: Any) -> tuple[Any, int]:
    """(texts, width) float32 of length one, and how many tokens were read."""
    import numpy as np

    vectors = serving.engine.embed(texts, pooling, adapter)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    count = sum(
        len(serving.engine.tokenize(one)) if isinstance(one, str) else len(one.ids) for one in texts
    )
    return vectors / np.maximum(lengths, 1e-12), count


def _written(vector: Any, body: EmbeddingBody) -> str | list[float]:
    if body.encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    return [float(value) for value in vector]
