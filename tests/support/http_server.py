"""A small HTTP server that does what a test tells it to, also what no good server does."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import BinaryIO, Self


@dataclass
class Received:
    """A request as it came; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Say:
    """An answer, and how to spoil it."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    """`Content-Length` is added unless it, or `Transfer-Encoding`, is given."""
    body: bytes = b""
    read_bytes: int | None = None
    """Take only so much of the request's body before answering; None takes all of it."""
    cut_after: int | None = None
    """Reset the connection after so many bytes of the body."""
    hang: bool = False
    """Say nothing until the server stops."""
    hang_up: bool = False
    """Close without an answer."""
    interim: bytes = b""
    """Sent before the body is taken: b"HTTP/1.1 100 Continue\\r\\n\\r\\n"."""
    raw: bytes = b""
    """Sent in the place of the whole answer."""
    endless: bytes = b""
    """Sent after the body again and again, until the client hangs up; no length is announced then."""
    every_s: float = 0
    """The pause before each of these."""
    tunnel: tuple[str, int] | None = None
    """After the answer, pass everything on to there and back (what a proxy does for CONNECT)."""


class HttpServer:
    """Listens on 127.0.0.1 while it is entered, and asks `answer` what to say to each request."""

    def __init__(self, answer: Callable[[Received], Say], tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.requests: list[Received] = []
        """The requests so far, oldest first."""
        self.endless_bytes = 0
        """How much of endless answers was taken."""
        self._tls = tls
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        scheme = "https" if self._tls else "http"
        # Not "localhost": trying [::1] first, where nobody listens, now and then connects to itself.
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._start(lambda connection=connection: self._serve(connection))  # type: ignore[misc]

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        # An answer has to be on its way before the connection is reset, not wait for an ACK.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError), connection:
            if not self._tls:
                self._converse(connection)
                return
            with self._tls.wrap_socket(connection, server_side=True) as encrypted:
                self._converse(encrypted)

    def _converse(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            received = _read_head(stream)
            self.requests.append(received)
            say = self.answer(received)
            length = int(received.headers.get("content-length", "0"))
            if say.interim:
                connection.sendall(say.interim)
            received.body = stream.read(length if say.read_bytes is None else min(length, say.read_bytes))
            if say.hang:
                self._stopped.wait(30)
            if say.hang or say.hang_up:
                return
            self._reply(connection, say)
            if say.tunnel:
                self._pass_on(connection, say.tunnel)

    def _reply(self, connection: socket.socket, say: Say) -> None:
        if say.raw:
            connection.sendall(say.raw)
            return
        headers = dict(say.headers)
        if say.endless:
            headers["Connection"] = "close"
        elif not {"Content-Length", "Transfer-Encoding"} & headers.keys():
            headers["Content-Length"] = str(len(say.body))
        head = [
            f"HTTP/1.1 {say.status} Told",
            *(f"{name}: {value}" for name, value in headers.items()),
            "",
            "",
        ]
        connection.sendall("\r\n".join(head).encode("latin-1"))
        connection.sendall(say.body if say.cut_after is None else say.body[: say.cut_after])
        while say.endless and not self._stopped.wait(say.every_s):
            connection.sendall(say.endless)
            self.endless_bytes += len(say.endless)
        if say.cut_after is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _pass_on(self, client: socket.socket, address: tuple[str, int]) -> None:
        with socket.create_connection(address, timeout=10) as server:
            self._start(lambda: _pump(server, client))
            _pump(client, server)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(1 << 16):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)


def _read_head(stream: BinaryIO) -> Received:
    line = stream.readline(1 << 16).decode("latin-1")
    if not line:
        raise ConnectionError("the client hung up without a request")
    method, target, _ = line.split(" ", 2)
    headers = {}
    while line := stream.readline(1 << 16).decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return Received(method, target, headers)


@contextmanager
def keeping() -> Iterator[tuple[str, dict[str, Received]]]:
    """A server that keeps what is put there; its URL, and what it has."""
    kept: dict[str, Received] = {}

    def answer(request: Received) -> Say:
        if request.method == "PUT":
            kept[request.target] = request  # its body comes after this
            return Say(201)
        return Say(200, body=kept[request.target].body) if request.target in kept else Say(404)

    with HttpServer(answer) as server:
        yield server.url, kept
