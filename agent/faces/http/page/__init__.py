"""The page for the person in front of the device: one HTML file, one stylesheet, one module, an icon.

The files say nothing about the device, so nobody has to sign in for them.
"""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from agent.faces.http.message import Request, Response
from agent.faces.http.routes import Route

_HERE = Path(__file__).parent
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""The file behind each path, and its media type."""
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'none'; base-uri 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)
"""No code or style but that of these files; no text ever becomes markup, because no trusted type exists."""


def page_routes() -> Sequence[Route]:
    return tuple(
        Route("GET", path, partial(_send, name, media_type), is_public=True)
        for path, (name, media_type) in _FILES.items()
    )


def _send(name: str, media_type: str, request: Request) -> Response:
    body = (_HERE / name).read_bytes()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {
        "Content-Type": media_type,
        "Content-Security-Policy": _POLICY,
        # A new version of the agent is a new page: browsers ask each time, and get 304 or everything.
        "Cache-Control": "no-cache",
        "ETag": tag,
    }
    if tag in request.headers.get("if-none-match", ""):
        return Response(304, headers)
    return Response(200, headers, body)
