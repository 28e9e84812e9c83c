"""An HTTP client that sends exactly the given bytes, and a server with handlers of a test's own."""

import http.client
import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from typing import Any

from agent.faces.http.connection import Answer
from agent.faces.http.listeners import Listener
from agent.faces.http.places import Places
from agent.faces.http.routes import Route, Router, Site
from agent.faces.http.sockets import tcp_socket
from agent.faces.http.tls import ServerTls
from agent.settings.http import ListenAddress

TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Received:
    status: int
    reason: str
    headers: dict[str, str]
    """By name in small letters."""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class RawClient:
    """One connection. Everything waits for a limited time."""

    def __init__(self, address: tuple[str, int] | str, timeout_s: float = TIMEOUT_S) -> None:
        """`address` is a host and a port, or the path of a Unix socket."""
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(timeout_s)
        try:
            self.sock.connect(address)
        except OSError:
            self.sock.close()
            raise
        self._stream = self.sock.makefile("rb")

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self.sock.close()

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.sock.sendall(piece)

    def answer(self, method: str = "GET") -> Received:
        """Return the next answer; `method` is that of its request."""
        response = http.client.HTTPResponse(_Kept(self._stream), method=method)  # type: ignore[arg-type]
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Received(response.status, response.reason, headers, response.read())

    def ask(self, *pieces: bytes) -> Received:
        self.send(*pieces)
        return self.answer()

    def is_closed(self) -> bool:
        """Wait for the server to close its side; False when it sends something else."""
        try:
            return self._stream.read(1) == b""
        except ConnectionResetError:
            return True


class _Kept:
    """A socket whose stream stays open: behind an answer there may be the next one."""

    def __init__(self, stream: BufferedReader) -> None:
        self._stream = stream

    def makefile(self, _mode: str) -> "_Kept":
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close(self) -> None:
        """The connection goes on."""


class OpenDoor:
    """Lets everybody in."""

    def check_host(self, _request: object) -> None:
        """Every host is ours."""

    def admit(self, *_: object) -> str:
        return "a test"

    def is_still_admitted(self, *_: object) -> bool:
        return True


def answers(*routes: Route) -> Answer:
    return Router(Site(routes), tuple, OpenDoor()).answer


@contextmanager
def listening(answer: Answer, *, places: int = 8, tls: ServerTls | None = None) -> Iterator[tuple[str, int]]:
    """Serve on a port of this device, and return its address."""
    sock = tcp_socket(ListenAddress("127.0.0.1", 0))
    address: Sequence[Any] = sock.getsockname()
    room = Places(places)
    listener = Listener(sock, room, answer, tls)
    listener.begin()
    try:
        yield address[0], address[1]
    finally:
        room.close()
        listener.close()
