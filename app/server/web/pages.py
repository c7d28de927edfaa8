"""What the browser gets: a page, its style and script, and of textual-serve the terminal.

Nothing comes from another host, and the browser is told to fetch nothing from one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response

_HOST = re.compile(r"[\w.:\[\]-]+", re.ASCII)
_OWN = files("openchat_local.app.server.web")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
}
PAGE = "/"
SOCKET = "/web/window"


def pages() -> Mapping[str, Traversable]:
    """The files by the paths that they are served at. Needs the package textual-serve, of which
    no code is run here."""
    static = files("textual_serve") / "static"
    fonts = static / "fonts"
    return {
        PAGE: _OWN / "page.html",
        "/web/page.css": _OWN / "page.css",
        "/web/page.js": _OWN / "page.js",
        "/web/icon.svg": _OWN / "icon.svg",
        "/web/terminal.js": static / "js" / "textual.js",
        "/web/terminal.css": static / "css" / "xterm.css",
        "/web/mono.ttf": fonts / "RobotoMono-VariableFont_wght.ttf",
        "/web/mono-italic.ttf": fonts / "RobotoMono-Italic-VariableFont_wght.ttf",
    }


async def page(request: Request) -> Response:
    """One of `pages`."""
    file = pages()[request.url.path]
    kind = _TYPES["." + file.name.rpartition(".")[2]]
    host = request.headers["host"]  # which the door has looked at
    return Response(file.read_bytes(), media_type=kind, headers=_headers(host))


def _headers(host: str) -> dict[str, str]:
    host = host if _HOST.fullmatch(host) else "127.0.0.1"
    # Styles within the page are xterm.js's own: it makes them as it draws. Its sockets are named
    # since not every browser counts them among 'self'.
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        f"font-src 'self'; img-src 'self'; connect-src 'self' ws://{host} wss://{host}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-cache",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Frame-Options": "DENY",
    }
