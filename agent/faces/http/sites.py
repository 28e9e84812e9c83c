"""The sites of the HTTP face: who is meant by a request, and what answers it. Loaded with the first one."""

from collections.abc import Callable, Sequence

from agent.faces.http.access.door import Door
from agent.faces.http.access.tokens import Token
from agent.faces.http.api.context import Api
from agent.faces.http.api.table import api_routes
from agent.faces.http.engine_gate import EngineGate
from agent.faces.http.message import Problem, Request, Response
from agent.faces.http.page import page_routes
from agent.faces.http.routes import Route, Router, Site

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def make_router(api: Api, metrics: Callable[[], str]) -> Router:
    """Return the router of all sites; `metrics` is called in the main thread."""
    http = api.settings.http
    door = Door(http.hosts, Token(http.token_file) if http.token_file else None)
    own = Site(
        (
            *page_routes(),
            *_session_routes(door),
            *api_routes(api),
            _metrics_route(api.gate, metrics),
        )
    )
    return Router(own, lambda: _documents(api), door)


def _documents(api: Api) -> Sequence[Site]:
    """Return the sites of the documents, of which most devices have no client."""
    from agent.faces.http.documents.arcgis import arcgis_site
    from agent.faces.http.documents.eclypse import eclypse_site
    from agent.faces.http.documents.pieces import pieces_site

    return pieces_site(api), arcgis_site(api), eclypse_site(api)


def _metrics_route(gate: EngineGate, text: Callable[[], str]) -> Route:
    """Return the route of the numbers for Prometheus, which are also in the text file."""

    def metrics(_request: Request) -> Response:
        return Response(200, {"Content-Type": METRICS_TYPE}, gate.call(text).encode())

    return Route("GET", "/metrics", metrics)


def _session_routes(door: Door) -> Sequence[Route]:
    """Return the routes for signing in with a token, and for signing out."""

    def sign_in(request: Request) -> Response:
        return door.sign_in(_token(request), request)

    return (
        Route("POST", "/session", sign_in, is_public=True),
        Route("DELETE", "/session", door.sign_out),
    )


def _token(request: Request) -> str:
    value = request.json_object()
    if set(value) != {"token"} or not isinstance(value["token"], str):
        raise Problem(400, 'expected a JSON object {"token": "…"}')
    return value["token"].strip()  # blanks come along when people copy it
