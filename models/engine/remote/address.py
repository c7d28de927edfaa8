"""Where a remote engine answers, and whether that is this machine."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit, urlunsplit

from openchat_local.models.errors import OpenChatError

_API = "/v1"


class AddressError(OpenChatError):
    """A URL that no engine can have."""


@dataclass(frozen=True, slots=True)
class Address:
    """`base` is the URL of the API, such as ``https://api.openai.com/v1``; `root` the one that
    servers have their own paths under. `host` is the name alone, `place` what a person calls
    it: with the port, where that is not the usual one."""

    base: str
    root: str
    host: str
    place: str
    loopback: bool
    encrypted: bool

    @property
    def label(self) -> str:
        """The shortest that `read_address` makes the same of."""
        if self.loopback and not self.encrypted and self.base == f"http://{self.place}{_API}":
            return self.place
        return self.base


def looks_like_address(text: str) -> bool:
    """Whether a URL is meant, or a host of this machine with its port, rather than a name."""
    if "://" in text:
        return True
    host, colon, port = text.partition("/")[0].rpartition(":")
    return bool(colon) and port.isdigit() and _is_loopback(host.strip("[]"))


def read_address(text: str) -> Address:
    """The address that a URL names; one without a path is that of the server, whose API is at
    /v1. Raises AddressError: for one that holds a key or a password, above all."""
    given = text.strip()
    written = given if "://" in given else f"http://{given}"
    try:
        parts = urlsplit(written)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _no_address(given) from None
    if parts.scheme not in ("http", "https") or not host or any(c.isspace() for c in written):
        raise _no_address(given)
    if "://" not in given and not _is_loopback(host):
        raise _no_address(given)
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise AddressError(
            f"The URL of an engine at {host} holds more than an address: leave what stands before "
            "@ and after ? away; a key belongs in an environment variable, which --api-key-env "
            "names."
        )
    return _address(parts, host, port)


def _address(parts: SplitResult, host: str, port: int | None) -> Address:
    named = f"[{host}]" if ":" in host else host
    usual = 443 if parts.scheme == "https" else 80
    place = named if port in (None, usual) else f"{named}:{port}"
    path = parts.path.rstrip("/") or _API
    above = path.removesuffix(_API) if path.endswith(_API) else path
    return Address(
        base=urlunsplit((parts.scheme, place, path, "", "")),
        root=urlunsplit((parts.scheme, place, above, "", "")),
        host=host,
        place=place,
        loopback=_is_loopback(host),
        encrypted=parts.scheme == "https",
    )


def _is_loopback(host: str) -> bool:
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _no_address(text: str) -> AddressError:
    return AddressError(
        f"{text[:200]!r} is no URL of an engine: give one such as https://api.example.com/v1 or "
        "http://127.0.0.1:8080."
    )
