"""The sockets for clients from the network: opened only when nothing is missing that protects them."""

import socket
from collections.abc import Iterator, Sequence

import structlog

from agent.faces.http.access.tokens import BadToken, read_token
from agent.faces.http.sockets import is_loopback, tcp_socket
from agent.faces.http.tls import ServerTls
from agent.settings import HttpSettings
from agent.settings.http import ListenAddress

log = structlog.get_logger(__name__)


def open_network(
    settings: HttpSettings, passed: Sequence[socket.socket]
) -> tuple[list[socket.socket], ServerTls | None]:
    """Return the sockets to serve, of systemd and of `http.listen`, and their TLS. Logs what is missing."""
    problems = list(file_problems(settings))
    if problems:
        for problem in problems:
            log.error("http not available to the network", reason=problem)
        return _closed(passed), None
    tls = ServerTls(settings) if settings.cert else None
    sockets = [*passed]
    if settings.listen:
        try:
            sockets.append(tcp_socket(settings.listen))
        except OSError as error:
            reason = f"http.listen: {settings.listen} cannot be used ({error.strerror})"
            log.error("http not available to the network", reason=reason)
    return [each for each in sockets if _is_protected(each, settings)], tls


def file_problems(settings: HttpSettings) -> Iterator[str]:
    """Yield the problems of the files of token and certificates: a line each, without secrets."""
    if settings.token_file:
        try:
            read_token(settings.token_file)
        except BadToken as error:
            yield str(error)
    if settings.cert:
        try:
            ServerTls(settings)
        except (OSError, ValueError) as error:
            files = f"http.cert and http.key{', or http.clientCa,' if settings.client_ca else ''}"
            yield f"{files} cannot be used: {error}"


def _is_protected(listening: socket.socket, settings: HttpSettings) -> bool:
    """Return True when a client must sign in, and nobody can listen; else close it, and log what is missing.

    The settings do not know where systemd listens.
    """
    address = str(ListenAddress(*listening.getsockname()[:2]))
    if not (settings.token_file or settings.client_ca):
        reason = "nobody could sign in; give http.tokenFile or http.clientCa"
    elif not (is_loopback(listening) or settings.cert or settings.plain):
        reason = "it is open to the network without TLS; give http.cert and http.key"
    else:
        log.info("http listening", address=address, tls=settings.cert is not None)
        return True
    log.error("http not available to the network", address=address, reason=reason)
    listening.close()
    return False


def _closed(sockets: Sequence[socket.socket]) -> list[socket.socket]:
    for each in sockets:
        each.close()
    return []
