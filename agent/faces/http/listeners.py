"""Listening sockets: each has its own thread that accepts, and its own places for connections."""

import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from agent.faces.http.message import Peer
from agent.faces.unix_address import address

if TYPE_CHECKING:
    from agent.faces.http.connection import Answer

log = structlog.get_logger(__name__)

MAX_LOCAL_CONNECTIONS = 8
"""Further ones wait in the kernel's line."""


class Listener:
    """Accepts connections on one socket, from `begin` to `close`."""

    def __init__(self, listening: socket.socket, places: int, answer: "Answer") -> None:
        self._listening, self._answer = listening, answer
        self._places = threading.BoundedSemaphore(places)

    def begin(self) -> None:
        threading.Thread(target=self._accept, name="http", daemon=True).start()

    def close(self) -> None:
        # Only a shutdown wakes the thread that waits in accept.
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            self._places.acquire()
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), name="http-client", daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        # Not before somebody connects: the HTTP library takes almost a MiB.
        from agent.faces.http.connection import Connection

        try:
            with sock:
                Connection(sock, Peer(""), self._answer).serve()
        finally:
            self._places.release()


def unix_socket(path: Path) -> socket.socket:
    """Return a socket that listens at this path, for its owner only. Raises OSError."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(FileNotFoundError):
            path.unlink()  # of an agent that was killed: the lock says that none runs
        listening.bind(address(path))
        path.chmod(0o600)
        listening.listen(MAX_LOCAL_CONNECTIONS)
    except OSError:
        listening.close()
        raise
    return listening
