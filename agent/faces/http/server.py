"""The HTTP face, put together: its sites, who may come in, and the sockets it listens on."""

import os
import socket
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import structlog

from agent.faces.http.api.context import Api
from agent.faces.http.listeners import Listener
from agent.faces.http.message import Request, Response
from agent.faces.http.places import MAX_LOCAL_CONNECTIONS, MAX_NETWORK_CONNECTIONS, Places
from agent.faces.http.sockets import passed_sockets, unix_socket
from agent.faces.unix_address import http_socket
from agent.mailbox import Action
from agent.settings import Settings

if TYPE_CHECKING:
    from agent.faces.http.routes import Router

log = structlog.get_logger(__name__)

AGAIN_S = 30.0
"""Time between two tries to open the port of `http.listen`."""


class HttpServer:
    """Listens from `open` to `close`. What clients want is posted to the main thread by the gate."""

    def __init__(
        self,
        settings: Settings,
        api: Api,
        metrics: Callable[[], str],
        later: Callable[[float, Action], object],
    ) -> None:
        """`metrics` is called in the main thread; `later` calls an action there after some seconds."""
        self._settings, self._api, self._metrics = settings.http, api, metrics
        self._later = later
        self._told: Sequence[str] = ()
        self._listeners: list[Listener] = []
        self._path = http_socket(settings)
        self._local = Places(MAX_LOCAL_CONNECTIONS)
        self._network = Places(MAX_NETWORK_CONNECTIONS)
        self._made = False
        self._loading = threading.Lock()

    def open(self) -> None:
        """Begin to listen. What cannot be opened is only logged: the agent still serves its backend."""
        passed = passed_sockets(os.environ)
        self._open_local([each for each in passed if each.family == socket.AF_UNIX])
        self._open_network([each for each in passed if each.family != socket.AF_UNIX])

    def close(self) -> None:
        """Stop listening, and end all connections."""
        # First the places: a listener may wait for one.
        self._local.close()
        self._network.close()
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        if self._made:
            self._path.unlink(missing_ok=True)

    def _open_local(self, sockets: list[socket.socket]) -> None:
        if str(self._path) not in [each.getsockname() for each in sockets]:
            try:
                sockets.append(unix_socket(self._path, self._settings.socket_group))
                self._made = True
            except OSError as error:
                log.warning(
                    "local commands unavailable: socket not created",
                    path=str(self._path),
                    reason=error.strerror,
                )
        for each in sockets:
            self._begin(Listener(each, self._local, self._answer))

    def _open_network(self, passed: list[socket.socket]) -> None:
        if not (passed or self._settings.listen):
            return
        from agent.faces.http.network import open_network

        opened = open_network(self._settings, passed)
        for each in opened.sockets:
            self._begin(Listener(each, self._network, self._answer, opened.tls))
        if opened.problems:
            self._tell(opened.problems)
            self._later(AGAIN_S, lambda: self._open_network([]))

    def _tell(self, problems: Sequence[str]) -> None:
        """Log problems, unless they are those of the last try."""
        for problem in problems if problems != self._told else ():
            log.error("http not available to the network", reason=problem)
        self._told = problems

    def _answer(self, request: Request) -> Response:
        with self._loading:
            router = self._router
        return router.answer(request)

    @cached_property
    def _router(self) -> "Router":
        # An agent that nobody asks over HTTP does not load what answers.
        from agent.faces.http.sites import make_router

        return make_router(self._api, self._metrics)

    def _begin(self, listener: Listener) -> None:
        self._listeners.append(listener)
        listener.begin()
