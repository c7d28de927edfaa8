"""What went wrong on the way to a remote engine, as one sentence with what to do about it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import Any

from openchat_local.models.engine.remote.options import RemoteOptions
from openchat_local.models.errors import ConnectionLost, EngineError, OpenChatError

_CONNECTING = ("ConnectError", "ConnectTimeout")  # httpx's, by whatever name the library has it
_QUOTED = 300  # characters of what a server says
_OVERFLOW = (
    "context_length_exceeded",
    "exceed_context_size",
    "context length",
    "context size",
    "context window",
    "too many tokens",
)


class Refused(EngineError):
    """A server's answer that is no reply. `said` is what it said itself, `param` the parameter
    at fault, where it names one; `wait` the seconds after which it can be asked again, None
    where it does not say; `too_long` whether the prompt does not fit."""

    def __init__(
        self,
        sentence: str,
        status: int,
        said: str = "",
        *,
        param: str = "",
        wait: float | None = None,
        too_long: bool = False,
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.said = said
        self.param = param
        self.wait = wait
        self.too_long = too_long


class Unreachable(EngineError):
    """No connection came about: nothing was sent. `again` says whether another try may find the
    server, which may be starting."""

    def __init__(self, sentence: str, *, again: bool = False) -> None:
        super().__init__(sentence)
        self.again = again


class Broken(EngineError):
    """A connection that came about, and ended before the answer did: `what` happened to it, as
    the beginning of a sentence."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: try again.")
        self.what = what

    def in_mid_reply(self) -> ConnectionLost:
        """The same, of a reply that had begun."""
        return ConnectionLost(f"{self.what} before the reply was complete: what came is kept.")


def fault_of(error: Exception, options: RemoteOptions) -> OpenChatError:
    """`error`, raised by the client's library, in one sentence; an OpenChatError is itself."""
    import openai

    if isinstance(error, OpenChatError):
        return error
    if isinstance(error, openai.APIStatusError):
        return _answered(error, options)
    if isinstance(error, openai.APIConnectionError):
        return _not_connected(error, options)
    if isinstance(error, openai.APIError):  # an event of a stream that says what ended it
        return _in_stream(error, options)
    if isinstance(error, ValueError):
        return no_api(options)
    return Broken(f"{options.address.place} could not be asked ({_first_line(error)})")


def said_in(answer: Any, options: RemoteOptions) -> EngineError:
    """For an answer of status 200 that is none: what it says is wrong, if it does."""
    said = quoted(_message(answer), options) if isinstance(answer, dict) else ""
    return Broken(f"{options.address.place} gave up ({said})") if said else no_api(options)


def no_api(options: RemoteOptions) -> EngineError:
    """For an answer that is a web page, or no JSON."""
    return EngineError(
        f"{options.address.base} does not answer as an OpenAI-compatible server does: check the "
        "URL, which most of them have end in /v1."
    )


def _answered(error: Any, options: RemoteOptions) -> Refused:
    status, place = int(error.status_code), options.address.place
    said = quoted(_message(error.body), options)
    more = f": {said}" if said else ""
    headers = error.response.headers
    param = _field(error.body, "param")
    if 300 <= status < 400:
        where = quoted(headers.get("location", ""), options)
        elsewhere = f" to {where}" if where else ""
        sentence = f"{options.address.base} is not there any more, and points{elsewhere}: "
        return Refused(f"{sentence}give the URL that holds.", status)
    if status in (401, 403):
        # What the server says of it may hold a part of the key.
        return Refused(_about_key(status, options), status)
    if status == 404:
        return Refused(
            f"{place} has nothing at {options.address.base} by that name{more}.", 404, said
        )
    if status == 429:
        wait = _seconds(headers.get("retry-after", ""))
        when = f"in {wait:g} s" if wait is not None else "later"
        sentence = f"{place} has too much to do, or was asked too much: try again {when}{more}."
        return Refused(sentence, status, said, wait=wait)
    if status >= 500:
        return Refused(
            f"{place} has a fault of its own (HTTP {status}{more}): try again later.", status, said
        )
    said_or_code = said + _field(error.body, "code") + _field(error.body, "type")
    return Refused(
        f"{place} does not take the request (HTTP {status}){more or ': it does not say why'}.",
        status, said, param=param,
        too_long=any(word in said_or_code.lower() for word in _OVERFLOW),
    )  # fmt: skip


def _about_key(status: int, options: RemoteOptions) -> str:
    place, name = options.address.place, options.key_name
    if name is None:
        return (
            f"{place} wants an API key: put it into an environment variable, and name that with "
            f"--api-key-env NAME, or as api_key_env in the settings."
        )
    doing = "does not take" if status == 401 else "does not allow this with"
    return f"{place} {doing} the API key in {name}: put the right one there."


def _in_stream(error: Any, options: RemoteOptions) -> Broken:
    said = quoted(_message(error.body) or str(getattr(error, "message", "")), options)
    return Broken(f"{options.address.place} gave up ({said or 'it does not say why'})")


def _not_connected(error: Exception, options: RemoteOptions) -> EngineError:
    import openai

    causes, address = list(_causes(error)), options.address
    place = address.place
    connecting = any(type(one).__name__ in _CONNECTING for one in causes)
    if isinstance(error, openai.APITimeoutError):
        if connecting:
            return Unreachable(
                f"{place} did not answer within {options.connect_seconds:g} s: check that it runs, "
                "the URL, and the network."
            )
        return Broken(f"{place} said nothing for {options.silent_seconds:g} s and was given up")
    if any(isinstance(one, socket.gaierror) for one in causes):
        return Unreachable(
            f"There is no host {address.host}, or no network: check the URL and the connection."
        )
    if any(isinstance(one, ConnectionRefusedError) for one in causes):
        return Unreachable(
            f"Nothing answers at {place}: start the server there, or check the URL.", again=True
        )
    for one in causes:
        if isinstance(one, ssl.SSLCertVerificationError):
            return Unreachable(
                f"The certificate of {place} cannot be trusted ({one.verify_message}): check the "
                "URL; one of your own making is trusted once SSL_CERT_FILE names its file."
            )
        if isinstance(one, ssl.SSLError) and address.encrypted:
            return Unreachable(f"{place} does not speak TLS: perhaps its URL begins with http://.")
    if any(type(one).__name__ == "RemoteProtocolError" for one in causes):
        return Broken(f"{place} closed the connection")
    reason = next((_first_line(one) for one in reversed(causes) if str(one).strip()), "no reason")
    if connecting:
        return Unreachable(f"{place} cannot be reached ({reason}): check the URL and the network.")
    return Broken(f"The connection to {place} was lost ({reason})")


def quoted(text: str, options: RemoteOptions) -> str:
    """What a server said, on one line, not too long, without our key and without its full stop."""
    line = " ".join(text.split())
    try:
        key = options.key()
    except OpenChatError:
        key = None
    if key:
        line = line.replace(key, "…")
    if len(line) > _QUOTED:
        line = line[: _QUOTED - 1] + "…"
    return line.rstrip(".")


def _message(body: Any) -> str:
    """The sentence in an error's body, of whatever make."""
    for _ in range(3):
        if isinstance(body, str):
            return "" if body.lstrip().startswith("<") else body
        if isinstance(body, list):  # of what is wrong, each with its place
            return "; ".join(map(_detail, body[:3]))
        if not isinstance(body, dict):
            return ""
        body = body.get("message") or body.get("error") or body.get("detail")
    return ""


def _detail(one: Any) -> str:
    if not isinstance(one, dict):
        return str(one)
    place = one.get("loc")
    where = ".".join(map(str, place)) + ": " if isinstance(place, list) else ""
    return where + str(one.get("msg") or one.get("message") or "")


def _field(body: Any, name: str) -> str:
    value = body.get(name) if isinstance(body, dict) else None
    return value if isinstance(value, str) else ""


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < 86_400 else None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
