"""From a frame that asks for scores or vectors to a job, which writes the answers itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from openchat_local.models.engine.decoding.embedding import EmbeddingJob
from openchat_local.models.engine.decoding.scoring import ScoringJob, Tokens, tokens_of
from openchat_local.models.engine.decoding.side_job import Beside, SideJob
from openchat_local.models.engine.protocol import Score, ScoreRequest
from openchat_local.models.engine.wire import (
    Frame,
    pack_vectors,
    unpack_choice,
    unpack_score_request,
    unpack_text,
)
from openchat_local.models.template import Template


def job_of(
    frame: Frame,
    beside: Beside,
    template: Template,
    write: Callable[[Frame], None],
    fail: Callable[[Exception], None],
) -> SideJob:
    """The job that `frame` asks for; nothing is done yet."""
    id = frame["id"]
    if frame["do"] == "embed":

        def vectors(found: np.ndarray) -> None:
            write({"id": id, "result": pack_vectors(found)})

        choice = unpack_choice(frame["adapter"])
        texts = [unpack_text(each) for each in frame["texts"]]
        return EmbeddingJob(id, beside, texts, frame["pooling"], choice, vectors, fail)

    def render(request: ScoreRequest, condition: str) -> Tokens:
        return tokens_of(request, template, condition)

    def scores(found: list[Score]) -> None:
        write({"id": id, "scores": [asdict(score) for score in found]})

    def finish() -> None:
        write({"id": id, "done": True})

    requests = [unpack_score_request(each) for each in frame["requests"]]
    return ScoringJob(id, beside, requests, render, scores, finish, fail)
