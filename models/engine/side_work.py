"""From a frame that asks for scores or vectors to a job, which writes the answers itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from openchat_local.models.engine.embedding import EmbeddingJob
from openchat_local.models.engine.loading import Loaded
from openchat_local.models.engine.protocol import Score
from openchat_local.models.engine.scoring import ContentIds, ScoringJob, tokens_of
from openchat_local.models.engine.side_job import SideJob
from openchat_local.models.engine.wire import Frame, pack_vectors, unpack_score_request
from openchat_local.models.errors import EngineError

KINDS = frozenset({"score", "embed"})


def job_of(
    frame: Frame, loaded: Loaded, content_ids: ContentIds | None, write: Callable[[Frame], None]
) -> SideJob:
    """The job that `frame` asks for. May take a while, for thousands of texts, and calls
    nothing of llama.cpp but its tokenizer. Raises OpenChatError, if it cannot be done."""
    if loaded.side is None:
        raise EngineError("This engine was started for its vocabulary only.")
    id = frame["id"]
    if frame["do"] == "embed":

        def vectors(found: np.ndarray) -> None:
            write({"id": id, "result": pack_vectors(found)})

        return EmbeddingJob(
            loaded.model, loaded.side, frame["texts"], frame["pooling"], vectors,
            loaded.weights, loaded.scale,
        )  # fmt: skip

    def scores(found: list[Score]) -> None:
        write({"id": id, "scores": [asdict(score) for score in found]})

    requests = [
        tokens_of(
            unpack_score_request(each), loaded.template, loaded.weights, loaded.scale,
            content_ids=content_ids,
        )
        for each in frame["requests"]
    ]  # fmt: skip
    return ScoringJob(loaded.model, loaded.side, requests, scores)
