"""The HTTP face, put together: its sites, who may come in, and the sockets it listens on."""

import structlog

from agent.faces.http.api.context import Api
from agent.faces.http.api.table import api_routes
from agent.faces.http.documents.arcgis import arcgis_site
from agent.faces.http.documents.eclypse import eclypse_site
from agent.faces.http.documents.pieces import pieces_site
from agent.faces.http.listeners import MAX_LOCAL_CONNECTIONS, Listener, unix_socket
from agent.faces.http.message import Request
from agent.faces.http.page.files import page_routes
from agent.faces.http.problems import problem_document
from agent.faces.http.routes import Route, Router, Site
from agent.settings import Settings

log = structlog.get_logger(__name__)

SOCKET_NAME = "http.sock"


class HttpServer:
    """Listens from `open` to `close`. What clients want is posted to the main thread by the gate."""

    def __init__(self, settings: Settings, api: Api) -> None:
        self._settings = settings
        own = Site((*page_routes(), *api_routes(api)), problem_document)
        self._router = Router((pieces_site(api), arcgis_site(api), eclypse_site(api), own), _admit)
        self._listeners: list[Listener] = []
        self._path = settings.http.socket or settings.storage / SOCKET_NAME

    def open(self) -> None:
        """Begin to listen. Without the socket the agent still serves its backend: that is only logged."""
        try:
            listening = unix_socket(self._path)
        except OSError as error:
            log.warning("local commands unavailable: socket not created", errno=error.errno)
            return
        listener = Listener(listening, MAX_LOCAL_CONNECTIONS, self._router.answer)
        self._listeners.append(listener)
        listener.begin()

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        self._path.unlink(missing_ok=True)


def _admit(request: Request, _route: Route) -> None:
    """Let everybody in who may open the Unix socket."""
    assert request.peer.is_local
