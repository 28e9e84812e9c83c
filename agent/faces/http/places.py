"""Places for connections: how many there may be at once, and which one makes room for the next."""

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.faces.http.connection import Connection

MAX_LOCAL_CONNECTIONS = 8
MAX_NETWORK_CONNECTIONS = 12
"""Further ones take the place of the one that was idle for longest, or wait in the kernel's line."""
MAX_STREAMS = 4
LOOK_S = 1.0
"""How often a connection that waits for a place looks whether another has become idle."""


class Places:
    """The connections of a kind: at most `count`, with `MAX_STREAMS` streams of events among them."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._open: dict[socket.socket, Connection | None] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._streams: set[Connection] = set()

    def enter(self, sock: socket.socket) -> bool:
        """Wait for a place and take it, at the cost of an idle connection; return False after `close`."""
        with self._changed:
            while not self._closed and len(self._open) >= self._count:
                self._end_idle()
                self._changed.wait(LOOK_S)
            if not self._closed:
                self._open[sock] = None
            return not self._closed

    def serving(self, sock: socket.socket, connection: "Connection") -> None:
        with self._changed:
            self._open[sock] = connection

    def leave(self, sock: socket.socket) -> None:
        with self._changed:
            self._open.pop(sock, None)
            self._changed.notify()

    def close(self) -> None:
        """End all connections, and let nobody in any more."""
        with self._changed:
            self._closed = True
            for sock in self._open:
                shut_down(sock)
            self._changed.notify_all()

    def _end_idle(self) -> None:
        """End the connection that was idle for longest; its thread then leaves."""
        idle = [
            (each.idle_since_s, number, sock)
            for number, (sock, each) in enumerate(self._open.items())
            if each and each.idle_since_s is not None
        ]
        if idle:
            shut_down(min(idle)[2])

    def enter_stream(self, connection: "Connection") -> bool:
        """Take a place for a stream of events; return False when all clients of others are still there."""
        with self._changed:
            self._streams = {each for each in self._streams if not each.is_gone()}
            if len(self._streams) >= MAX_STREAMS:
                return False
            self._streams.add(connection)
            return True

    def leave_stream(self, connection: "Connection") -> None:
        with self._changed:
            self._streams.discard(connection)


def shut_down(sock: socket.socket) -> None:
    """End a socket, so that a thread that waits for it wakes."""
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
