"""The sites of the HTTP face: who is meant by a request, and what answers it. Loaded with the first one."""

from collections.abc import Callable, Sequence

from agent.faces.http.access.door import Door
from agent.faces.http.access.session_routes import session_routes
from agent.faces.http.access.tokens import Token
from agent.faces.http.api.context import Api
from agent.faces.http.api.table import api_routes
from agent.faces.http.exposition import metrics_routes
from agent.faces.http.page.files import page_routes
from agent.faces.http.routes import Router, Site


def make_router(api: Api, metrics: Callable[[], str]) -> Router:
    """Return the router of all sites; `metrics` is called in the main thread."""
    http = api.settings.http
    door = Door(http.hosts, Token(http.token_file) if http.token_file else None)
    own = Site(
        (
            *page_routes(),
            *session_routes(door),
            *api_routes(api),
            *metrics_routes(api.gate, metrics),
        )
    )
    return Router(own, lambda: _documents(api), door)


def _documents(api: Api) -> Sequence[Site]:
    """Return the sites of the documents, of which most devices have no client."""
    from agent.faces.http.documents.arcgis import arcgis_site
    from agent.faces.http.documents.eclypse import eclypse_site
    from agent.faces.http.documents.pieces import pieces_site

    return pieces_site(api), arcgis_site(api), eclypse_site(api)
