"""Who may ask: the door that every request goes through before anything of it is read."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import socket
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from openchat_local.app.server.errors import ApiError, refused
from openchat_local.models.errors import OpenChatError

LEAST_KEY = 16
"""Characters of a key that is worth one."""
_LOOPBACK = ("localhost", "localhost.localdomain")
_HOST = re.compile(r"(\[[0-9a-fA-F:.%]+\]|[^:\[\]]+)(?::(\d{1,5}))?")
OPEN = "/health"
"""What needs no key."""


@dataclass(frozen=True, slots=True)
class Door:
    """Which requests come in.

    `keys` are SHA-256 digests of what may be shown, none where the machine itself is trusted.
    `names` are the hosts that a request may be addressed to, beside this machine's loopback names
    and, where `any_address`, IP addresses: a page of somebody's that has made its own name point
    here (DNS rebinding) comes with that name. `origins` are the pages that may ask from a browser.
    """

    keys: tuple[bytes, ...] = ()
    names: frozenset[str] = frozenset()
    any_address: bool = False
    origins: frozenset[str] = field(default_factory=frozenset)

    def check(self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Raise ApiError where a request must not come in. The page that asks comes back, None
        where none does or it is this server's own."""
        sent = [
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers
        ]
        host = self._host([value for name, value in sent if name == "host"])
        origin = self._origin([value for name, value in sent if name == "origin"], host)
        if method == "OPTIONS" and origin is not None:
            return origin  # a browser asks whether it may ask, and shows no key
        if path != OPEN:
            self._key([value for name, value in sent if name == "authorization"])
        if method == "POST":
            _type([value for name, value in sent if name == "content-type"])
        return origin

    def visit(self, headers: Iterable[tuple[bytes, bytes]], *, by_page: bool = False) -> None:
        """Raise ApiError where a request for a page of this server's own must not come in; with
        `by_page` also where no page asks. Nothing else is looked at: such a page has no secret,
        and no other page may use what lies behind it."""
        sent = [(name.lower(), value.decode("latin-1")) for name, value in headers]
        host = self._host([value for name, value in sent if name == b"host"])
        origins = [value for name, value in sent if name == b"origin"]
        if (by_page and not origins) or self._origin(origins, host) is not None:
            raise ApiError(
                403, "This is for the pages of this server alone.", code="origin_not_allowed"
            )

    def _host(self, found: Sequence[str]) -> str:
        """The address that the request was sent to, as it was written."""
        parts = _HOST.fullmatch(found[0].strip()) if len(found) == 1 else None
        if parts is None:
            raise refused("The Host header is missing or makes no sense.")
        name = parts[1].strip("[]").rstrip(".").lower()
        if name in _LOOPBACK or name in self.names or _is_loopback(name):
            return found[0].strip().lower()
        if self.any_address and _is_address(name):
            return found[0].strip().lower()
        raise ApiError(
            403,
            f"This server does not answer to the name {name[:100]!r}: use its address, or start "
            "it with --allow-host.",
            code="host_not_allowed",
        )

    def _origin(self, found: Sequence[str], host: str) -> str | None:
        if not found:
            return None
        origin = found[0].strip().lower()
        if len(found) == 1 and origin in self.origins:
            return origin
        if len(found) == 1 and origin in (f"http://{host}", f"https://{host}"):
            return None
        raise ApiError(
            403,
            f"A page of {origin[:100]!r} may not use this server: start it with --allow-origin.",
            code="origin_not_allowed",
        )

    def _key(self, found: Sequence[str]) -> None:
        if not self.keys:
            return
        scheme, _, shown = found[0].partition(" ") if len(found) == 1 else ("", "", "")
        digest = digest_of(shown.strip()) if scheme.lower() == "bearer" else b""
        if not _is_one(digest, self.keys):
            raise ApiError(
                401,
                "This server wants its API key, as in `Authorization: Bearer KEY`.",
                type="authentication_error",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )


def fits(shown: str, keys: Sequence[bytes]) -> bool:
    """Whether it is the key of one of these digests."""
    return _is_one(digest_of(shown), keys)


def _is_one(digest: bytes, keys: Sequence[bytes]) -> bool:
    # All are compared, each in constant time: how long it takes tells nothing.
    found = [hmac.compare_digest(digest, key) for key in keys]
    return any(found)


def digest_of(key: str) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()


def keys_of(text: str, where: str) -> tuple[bytes, ...]:
    """The digests of the keys in `text`, one a line. Raises OpenChatError, which names `where`
    they came from and none of them."""
    keys = [line.strip() for line in text.splitlines() if line.strip()]
    if not keys:
        raise OpenChatError(f"{where} holds no API key: put one there, a line.")
    for key in keys:
        if len(key) < LEAST_KEY or not key.isascii() or not key.isprintable() or " " in key:
            raise OpenChatError(
                f"{where} holds an API key that is too weak or not plain: use {LEAST_KEY} letters "
                "and digits or more, such as what `openssl rand -hex 24` prints."
            )
    return tuple(digest_of(key) for key in keys)


def origin_named(text: str) -> str:
    """An origin as browsers send it. Raises OpenChatError."""
    origin = text.strip().rstrip("/").lower()
    if not re.fullmatch(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?", origin):
        raise OpenChatError(
            f"{text!r} is no origin: give the scheme, the host and the port of a page, as in "
            "http://localhost:3000."
        )
    return origin


def is_loopback(addresses: Collection[str]) -> bool:
    """Whether all of these addresses are this machine's own, and nobody else's."""
    return bool(addresses) and all(_is_loopback(address) for address in addresses)


def own_names() -> frozenset[str]:
    """What this machine calls itself."""
    return frozenset(name.lower() for name in (socket.gethostname(),) if name)


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def _type(found: Sequence[str]) -> None:
    """A form on somebody's page can be sent here without asking; JSON cannot."""
    kind = found[0].partition(";")[0].strip().lower() if len(found) == 1 else ""
    if kind != "application/json":
        raise ApiError(
            415, "Send JSON, and say so: Content-Type: application/json.", code="not_json"
        )
