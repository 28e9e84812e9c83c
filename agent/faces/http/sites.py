"""The sites of the HTTP face: who is meant by a request, and what answers it. Loaded with the first one."""

from agent.faces.http.api.context import Api
from agent.faces.http.api.table import api_routes
from agent.faces.http.documents.arcgis import arcgis_site
from agent.faces.http.documents.eclypse import eclypse_site
from agent.faces.http.documents.pieces import pieces_site
from agent.faces.http.message import Request
from agent.faces.http.page.files import page_routes
from agent.faces.http.problems import problem_document
from agent.faces.http.routes import Route, Router, Site


def make_router(api: Api) -> Router:
    """Return the router of all sites."""
    own = Site((*page_routes(), *api_routes(api)), problem_document)
    return Router((pieces_site(api), arcgis_site(api), eclypse_site(api), own), _admit)


def _admit(request: Request, _route: Route) -> None:
    """Let everybody in who may open the Unix socket."""
    assert request.peer.is_local
