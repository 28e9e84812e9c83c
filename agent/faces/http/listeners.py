"""Listening sockets: each has its own thread that accepts, and its own places for connections."""

import os
import select
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

import structlog

from agent.faces.http.message import Peer, Problem, Request, Response
from agent.faces.http.places import Places
from agent.log.sparing import SparingLog

if TYPE_CHECKING:
    from agent.faces.http.connection import Answer
    from agent.faces.http.tls import ServerTls

log = structlog.get_logger(__name__)

HANDSHAKE_S = 10.0
_TLS_HANDSHAKE = b"\x16"
"""The first byte of a TLS client (RFC 8446, 5.1)."""
PAUSE_S = 1.0
"""How long a listener waits when the process has no descriptor or thread left."""


class Listener:
    """Accepts connections on one socket, from `begin` to `close`."""

    def __init__(
        self,
        listening: socket.socket,
        places: Places,
        answer: "Answer",
        tls: "ServerTls | None" = None,
    ) -> None:
        self._listening, self._places, self._answer, self._tls = listening, places, answer, tls
        self._closed = threading.Event()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._accept, name="http", daemon=True)
        listening.setblocking(False)
        self._sparing = SparingLog(log)

    def begin(self) -> None:
        self._thread.start()

    def close(self) -> None:
        # Without a shutdown, which would also end the socket that systemd keeps for the next start.
        self._closed.set()
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.close(self._wake)
        self._listening.close()

    def _accept(self) -> None:
        poll = select.poll()
        poll.register(self._listening, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while not self._closed.is_set():
            poll.poll()
            try:
                sock, _ = self._listening.accept()
            except BlockingIOError:  # closed, or the client has gone already
                continue
            except OSError as error:
                self._sparing.warning("http connection not accepted", errno=error.errno)
                self._closed.wait(PAUSE_S)
                continue
            sock.setblocking(True)
            self._begin_serving(sock)

    def _begin_serving(self, sock: socket.socket) -> None:
        if not self._places.enter(sock):
            sock.close()
            return
        try:
            threading.Thread(target=self._serve, args=(sock,), name="http-client", daemon=True).start()
        except RuntimeError:  # no thread left
            self._sparing.warning("http connection not served: no thread left")
            self._places.leave(sock)
            sock.close()

    def _serve(self, sock: socket.socket) -> None:
        try:
            with suppress(OSError), sock:
                self._talk(sock)
        finally:
            self._places.leave(sock)

    def _talk(self, sock: socket.socket) -> None:
        if self._tls is None:
            self._serve_connection(sock, sock, _peer(sock), self._answer)
            return
        sock.settimeout(HANDSHAKE_S)
        # Not later: `wrap_socket` leaves the socket of a client that has reset its connection open.
        first = sock.recv(1, socket.MSG_PEEK)
        if first != _TLS_HANDSHAKE:
            self._serve_connection(sock, sock, _peer(sock), _refuse_plain)
            return
        with self._tls.context().wrap_socket(sock.dup(), server_side=True) as encrypted:
            peer = replace(_peer(sock), subject=self._tls.subject_of(encrypted), tls=True)
            self._serve_connection(sock, encrypted, peer, self._answer)

    def _serve_connection(
        self, place: socket.socket, sock: socket.socket, peer: Peer, answer: "Answer"
    ) -> None:
        # Not before somebody connects: the HTTP library takes almost a MiB.
        from agent.faces.http.connection import Connection

        connection = Connection(sock, peer, answer, self._places)
        self._places.serving(place, connection)
        connection.serve()


def _refuse_plain(_request: Request) -> Response:
    """Refuse a client that does not speak TLS, as a browser where nobody typed 'https'. Raises `Problem`."""
    raise Problem(400, "this port speaks TLS: use https://")


def _peer(sock: socket.socket) -> Peer:
    """Return the other end. Raises OSError when it has gone."""
    if sock.family == socket.AF_UNIX:
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, user_id, _ = struct.unpack("3i", credentials)
        return Peer("", user_id=user_id)
    return Peer(_plain(sock.getpeername()[0]))


def _plain(address: str) -> str:
    """Return an IP address without zone, and an IPv4 address as such also on a socket for both."""
    ip = ip_address(address.partition("%")[0])
    return str(getattr(ip, "ipv4_mapped", None) or ip)
