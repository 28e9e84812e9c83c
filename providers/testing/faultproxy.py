"""A TCP proxy that misbehaves on demand: latency, rate, reset after N bytes, black hole, refusal.

Lead a provider through it with `Limits(connect=proxy.connect)`, or another client with `upstream` and
`address`. Any thread may change the faults while connections are open.
"""

import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Literal, Self

Direction = Literal["up", "down"]
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def _reset(connection: socket.socket) -> None:
    """Close so that the other side sees "connection reset by peer"."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        connection.shutdown(socket.SHUT_RD)  # wakes the thread that reads from it
    connection.close()


class FaultProxy:
    """Listens on 127.0.0.1 while it is entered; forwards to `upstream`, or to the host of `connect`."""

    def __init__(self, upstream: tuple[str, int] | None = None) -> None:
        self.upstream = upstream
        self.latency_s = 0.0
        """Waited before each piece (up to 64 KiB) is passed on."""
        self.rate_bytes_per_s: float | None = None
        self.refuse = False
        """True to let `connect` find a closed port."""
        self.black_hole = False
        """True to accept connections and pass nothing on."""
        self.drip: set[Direction] = set()
        """In these directions one byte is passed on at a time, 20 in a second."""
        self.reset_after: dict[Direction, int] = {}
        """Reset all connections once this many bytes in total have passed: {"up": 1_000_000}."""
        self.reset_every: dict[Direction, int] = {}
        """Reset each connection once it has passed this many bytes: {"up": 1_000_000}."""
        self.gate: Callable[[Direction, bytes], int | None] = lambda *_: None
        """Called with each piece before it is passed on. Returns how many of its bytes are passed on before
        all
        connections are reset; None to pass it on and continue."""
        self.passed: dict[Direction, int] = {"up": 0, "down": 0}
        """Bytes passed so far over all connections; "up" is from client to server."""
        self.connections = 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._closed_port = socket.socket()
        self._closed_port.bind(("127.0.0.1", 0))  # taken, but nobody listens
        self.address: tuple[str, int] = self._listener.getsockname()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._closed_port.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)

    def connect(self, host: str, port: int) -> socket.socket:
        """Connect through this proxy to (host, port), as `Limits.connect` does."""
        self.upstream = (host, port)
        address = self._closed_port.getsockname() if self.refuse else self.address
        return socket.create_connection(address, timeout=10)

    def cut(self) -> None:
        """Reset all connections now."""
        with self._lock:
            connections, self._open = self._open, set()
        for connection in connections:
            _reset(connection)

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._forward(client)

    def _forward(self, client: socket.socket) -> None:
        assert self.upstream is not None, "say where to go: FaultProxy(upstream) or proxy.connect"
        try:
            server = socket.create_connection(self.upstream, timeout=10)
        except OSError:
            _reset(client)
            return
        for connection in (client, server):
            connection.settimeout(None)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open |= {client, server}
            self.connections += 1
        if self._stopped.is_set():  # `__exit__` has closed the earlier ones already
            self.cut()
            return
        for pump in ((client, server, "up"), (server, client, "down")):
            thread = threading.Thread(target=self._pump, args=pump, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket, direction: Direction) -> None:
        passed = 0
        try:
            while piece := source.recv(1 << 16):
                passed += len(piece)
                if not self._pass_on(piece, sink, direction):
                    self.cut()
                    return
                if passed >= self.reset_every.get(direction, passed + 1):
                    raise ConnectionResetError
            sink.shutdown(socket.SHUT_WR)
        except OSError:  # one side's reset is passed on to the other
            _reset(source)
            _reset(sink)

    def _dripped(self, piece: bytes, sink: socket.socket) -> bool:
        for byte in piece:
            if self._stopped.wait(0.05):
                return False
            sink.sendall(bytes((byte,)))
        return True

    def _pass_on(self, piece: bytes, sink: socket.socket, direction: Direction) -> bool:
        """Pass the piece on; return False when the connections are to be reset."""
        while self.black_hole and not self._stopped.wait(0.01):
            pass
        if delay_s := self.latency_s + (len(piece) / self.rate_bytes_per_s if self.rate_bytes_per_s else 0):
            time.sleep(delay_s)
        if direction in self.drip:
            return self._dripped(piece, sink)
        last_bytes = self.gate(direction, piece)
        piece = piece[:last_bytes]
        limit = self.reset_after.get(direction)
        if limit is not None:
            piece = piece[: max(0, limit - self.passed[direction])]
        sink.sendall(piece)
        self.passed[direction] += len(piece)
        return last_bytes is None and (limit is None or self.passed[direction] < limit)
