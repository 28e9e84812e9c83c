"""Signing in and out, for the page: `POST /session` with `{"token": "…"}`, and `DELETE /session`."""

import json
from collections.abc import Sequence

from agent.faces.http.access.door import Door
from agent.faces.http.message import JSON, Problem, Request, Response
from agent.faces.http.routes import Route


def session_routes(door: Door) -> Sequence[Route]:
    def sign_in(request: Request) -> Response:
        return door.sign_in(_token(request), request)

    return (
        Route("POST", "/session", sign_in, is_public=True),
        Route("DELETE", "/session", door.sign_out),
    )


def _token(request: Request) -> str:
    if request.content_type != JSON:
        raise Problem(415, f"expected a body of type {JSON}")
    try:
        value = json.loads(request.body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or set(value) != {"token"} or not isinstance(value["token"], str):
        raise Problem(400, 'expected a JSON object {"token": "…"}')
    return str(value["token"]).strip()  # blanks come along when people copy it
