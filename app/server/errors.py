"""What a client is told when something is wrong, in OpenAI's shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from openchat_local.models.errors import (
    AdapterError,
    ContextOverflow,
    DoesNotFit,
    EngineDied,
    EngineError,
    ModelFileError,
    ModelLoadError,
    OpenChatError,
    TemplateError,
)

INVALID = "invalid_request_error"
_OURS = "server_error"
# How the engine's child begins a sentence about what nobody foresaw.
_FAULT = "The engine failed"


class ApiError(OpenChatError):
    """A sentence for whoever asked, and the HTTP status that says whose fault it is."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = INVALID,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """{"error": {"message", "type", "param", "code"}}."""
        return {
            "error": {
                "message": str(self),
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }


def refused(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """400: the request cannot be done as it stands."""
    return ApiError(400, message, param=param, code=code)


def busy(seconds: int) -> ApiError:
    """429: too many are waiting."""
    return ApiError(
        429,
        f"Too many requests are waiting already: try again in {seconds} s.",
        type="rate_limit_error",
        code="rate_limit_exceeded",
        headers={"Retry-After": str(seconds)},
    )


def fault() -> ApiError:
    """500: a bug of ours, of which the log has the details."""
    return ApiError(
        500, "This is a bug in openchat-local, sorry; the server's log has the details.", type=_OURS
    )


def ended() -> ApiError:
    """503: the engine was closed under a reply."""
    return ApiError(
        503, "The engine was closed before the reply was complete: ask again.", type=_OURS
    )


def told(error: OpenChatError, context: int, *, begun: bool = False) -> ApiError:
    """What a client is told of an error of the engine's, whose window holds `context` tokens;
    `begun` where the reply was on its way already."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, DoesNotFit):
        return refused(
            f"The prompt is {error.tokens:,} tokens long and this server's context holds "
            f"{context:,}, the reply included: shorten it, or restart the server with a larger "
            "--context.",
            "messages",
            "context_length_exceeded",
        )
    if isinstance(error, ContextOverflow):
        return refused(str(error), code="context_length_exceeded")
    if isinstance(error, EngineDied):
        return ApiError(503, str(error), type=_OURS, code="engine_died")
    if isinstance(error, ModelLoadError):
        return ApiError(503, str(error), type=_OURS, code="model_not_loaded")
    if isinstance(error, AdapterError | ModelFileError):
        return ApiError(404, str(error), param="model", code="model_not_found")
    if isinstance(error, TemplateError):
        return refused(str(error), "messages")
    if isinstance(error, EngineError) and not begun and not str(error).startswith(_FAULT):
        return refused(str(error))
    return ApiError(500, str(error), type=_OURS)
