"""What went wrong between here and the hub, in sentences that help."""

from __future__ import annotations

import errno
import re
from typing import Any

from openchat_local.models.errors import OpenChatError
from openchat_local.models.units import part_in_words, time_in_words

TOKENS = "huggingface.co/settings/tokens"
_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


class HubError(OpenChatError):
    """The hub does not give what was asked for, or gives something else."""


class PullCancelled(OpenChatError):
    """The user stopped the download; what came is kept."""


class Trouble(Exception):
    """Something that may pass: `reason` is a part of a sentence; `wait` is how many seconds
    the hub asks to wait, if it does. Never leaves this package."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait = wait


def from_status(error: Any, repository: str, what: str, has_token: bool) -> Exception:
    """What to raise for huggingface_hub's `HfHubHTTPError`: a HubError, or Trouble where it
    may pass. `what` is the file asked for, or ""."""
    from huggingface_hub import errors

    response = error.response
    status = response.status_code if response is not None else 0
    if status == 429:
        return Trouble("it asks for patience (status 429)", _retry_after(response))
    if status in (408, 500, 502, 503, 504) or status > 504:
        return Trouble(f"it is out of order (status {status})", _retry_after(response))
    if isinstance(error, errors.GatedRepoError):
        return HubError(_gated(repository, has_token))
    message = response.headers.get("X-Error-Message", "") if response is not None else ""
    if status == 401 and (has_token or message.startswith("Invalid")):
        return HubError(
            "The hub does not accept your token (from HF_TOKEN or hf auth login), or it gives no "
            f"access to {repository}: check the name, or make a new token at {TOKENS}."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return HubError(f"{repository} has no such revision on the hub: leave out @REVISION.")
    if isinstance(error, errors.EntryNotFoundError):
        return HubError(f"{repository} has no file {what} on the hub: check its name.")
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 404):
        return HubError(
            f"The hub has no repository {repository} that you may see: check the name; if it is "
            "private, set HF_TOKEN to a token that may read it."
        )
    if status == 403:
        why = f" ({message.rstrip('.')})" if message else ""
        return HubError(
            f"The hub forbids you {repository}{why}: see {repository} in a browser, or set "
            "HF_TOKEN to a token that may read it."
        )
    return HubError(
        f"The hub answers {what or repository} with status {status}: try again later, or set "
        "HF_ENDPOINT to a mirror."
    )


def from_transport(error: Exception, endpoint: str) -> Trouble:
    """A connection that could not be made or that broke."""
    kind = type(error).__name__
    detail = re.sub(r"^\[Errno -?\d+\] ", "", str(error).strip()).rstrip(".")
    if "Timeout" in kind:
        reason = "nothing came any more" if kind == "ReadTimeout" else "it does not answer"
    elif kind == "ProxyError":
        reason = f"the proxy does not let us through: {detail}"
    elif kind == "ConnectError":
        reason = f"it cannot be reached: {detail}"
    else:
        reason = "the connection broke"
    return Trouble(f"{reason} ({endpoint})")


def given_up(what: str, trouble: Trouble, done: int, total: int) -> HubError:
    """After all tries: where it stands, and that the same command continues from there."""
    if trouble.wait is not None and trouble.wait > 60:
        later = f"try again in {time_in_words(trouble.wait)}"
    else:
        later = "check the network, or set HF_ENDPOINT to a mirror, and try again"
    if not done:
        return HubError(f"{what} cannot be fetched from the hub, since {trouble.reason}: {later}.")
    return HubError(
        f"{what} stopped at {done / total:.0%}, since {trouble.reason}: {later}; the same "
        "command continues from there."
    )


def stopped(what: str, done: int, total: int) -> PullCancelled:
    """The user's own wish: where it stands, and how to go on."""
    if not done:
        return PullCancelled(f"Fetching {what} was stopped.")
    return PullCancelled(
        f"{what} stopped at {done / max(total, 1):.0%}: what came is kept, and fetching it again "
        "continues from there."
    )


def from_disk(error: OSError, what: str, folder: Any, done: int, total: int) -> HubError:
    """The part could not be written."""
    if error.errno in _FULL:
        return HubError(
            f"The disk of {folder} is full after {part_in_words(done, total)} of "
            f"{what}: make room, and the same command continues from there."
        )
    return HubError(
        f"{what} cannot be written to {folder} ({error.strerror or error}): make it writable, "
        "or set OPENCHAT_LOCAL_HOME to another folder."
    )


def _gated(repository: str, has_token: bool) -> str:
    page = f"huggingface.co/{repository}"
    if has_token:
        return (
            f"{repository} is only given to whoever accepted its conditions, and the account of "
            f"your token has not: accept them at {page} and try again."
        )
    return (
        f"{repository} is only given to whoever accepted its conditions: accept them at {page}, "
        f"make a token at {TOKENS}, and set HF_TOKEN to it."
    )


def _retry_after(response: Any) -> float | None:
    """Seconds; the header's other form, a date, is not used by the hub."""
    value = response.headers.get("Retry-After", "").strip()
    return float(value) if value.isdigit() else None
