"""/v1/models, /health and /metrics."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from openchat_local.app.server.responses import Json
from openchat_local.app.server.served import ServedModel
from openchat_local.app.server.state import Serving


async def models(serving: Serving) -> Json:
    """All that can be asked now."""
    found = await serving.bridge.ask(serving.models.all)
    return Json({"object": "list", "data": [_listed(model, serving) for model in found]})


async def model(serving: Serving, id: str) -> Json:
    """One of them. Raises ApiError: 404."""
    found = await serving.bridge.ask(lambda: serving.models.find(id))
    return Json(_listed(found, serving))


async def health(serving: Serving) -> Json:
    """That the server is at work. An engine that died is started by the next request."""
    return Json({"status": "ok"})


async def metrics(serving: Serving) -> Response:
    """For Prometheus."""
    page, kind = serving.metrics.page()
    return Response(page, headers={"Content-Type": kind})


def _listed(model: ServedModel, serving: Serving) -> dict[str, Any]:
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": "openchat-local",
        "parent": model.parent,
        "root": model.parent or model.id,
        "condition": model.condition,
        "rewards": {trained.name: trained.reward for trained in model.classes},
        "conditions": {trained.name: trained.condition for trained in model.classes},
        "max_model_len": serving.loaded.context,
        "system_fingerprint": model.fingerprint(None),
    }
