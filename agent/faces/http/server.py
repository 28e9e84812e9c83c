"""The HTTP face, put together: its sites, who may come in, and the sockets it listens on."""

from functools import cached_property
from typing import TYPE_CHECKING

import structlog

from agent.faces.http.api.context import Api
from agent.faces.http.listeners import MAX_LOCAL_CONNECTIONS, Listener, unix_socket
from agent.faces.http.message import Request, Response
from agent.faces.unix_address import http_socket
from agent.settings import Settings

if TYPE_CHECKING:
    from agent.faces.http.routes import Router

log = structlog.get_logger(__name__)


class HttpServer:
    """Listens from `open` to `close`. What clients want is posted to the main thread by the gate."""

    def __init__(self, settings: Settings, api: Api) -> None:
        self._settings, self._api = settings, api
        self._listeners: list[Listener] = []
        self._path = http_socket(settings)

    def open(self) -> None:
        """Begin to listen. Without the socket the agent still serves its backend: that is only logged."""
        try:
            listening = unix_socket(self._path)
        except OSError as error:
            log.warning("local commands unavailable: socket not created", errno=error.errno)
            return
        listener = Listener(listening, MAX_LOCAL_CONNECTIONS, self._answer)
        self._listeners.append(listener)
        listener.begin()

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        self._path.unlink(missing_ok=True)

    @cached_property
    def _router(self) -> "Router":
        # An agent that nobody asks over HTTP does not load what answers.
        from agent.faces.http.sites import make_router

        return make_router(self._api)

    def _answer(self, request: Request) -> Response:
        return self._router.answer(request)
