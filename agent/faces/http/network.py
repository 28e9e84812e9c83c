"""The sockets for clients from the network: opened only when nothing is missing that protects them."""

import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import structlog

from agent.faces.http.access.tokens import BadToken, read_token
from agent.faces.http.sockets import is_loopback, tcp_socket
from agent.faces.http.tls import ServerTls
from agent.settings.group_defaults import HttpSettings
from agent.settings.http import ListenAddress

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """The sockets to serve, and the problems of those that are missing."""

    sockets: Sequence[socket.socket]
    tls: ServerTls | None
    problems: Sequence[str]
    """A line each; they may pass: a port becomes free, a file comes."""


def open_network(settings: HttpSettings, passed: Sequence[socket.socket]) -> Opened:
    """Return the sockets of systemd and of `http.listen`, and their TLS."""
    if problems := list(file_problems(settings)):
        for each in passed:
            each.close()
        return Opened((), None, problems)
    tls = ServerTls(settings) if settings.cert else None
    sockets = [*passed]
    if settings.listen:
        try:
            sockets.append(tcp_socket(settings.listen))
        except OSError as error:
            problems.append(f"http.listen: {settings.listen} cannot be used ({error.strerror})")
    return Opened([each for each in sockets if _is_protected(each, settings)], tls, problems)


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
