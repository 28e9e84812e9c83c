"""Sockets that give up a far side which is there, and as good as silent.

A time-out counts from one byte to the next: a server that sends or takes one byte in ten seconds would be
waited for without end. So here the time that was spent waiting is added up, until enough has passed in
one direction; our own slowness, of a disk or a rate limit, does not count (as `--speed-limit` and
`--speed-time` of curl, which count it).
"""

import os
import socket
import ssl
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

LEAST_BYTES = 4096
"""The least that has to pass within the time-out. 70 bytes a second: slower than any link in order."""
_PIECE_BYTES = 1 << 16  # given to TLS at a time: 64 KiB within the time-out are slow, and no stall


class Patience:
    """Adds up the time spent waiting for the far side. Raises `TimeoutError` when that is too long."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._sending = False
        self._waited_s, self._moved_bytes = 0.0, 0

    def waited(self, sending: bool, since_s: float, moved_bytes: int) -> None:
        """A call that began at `since_s` (monotonic) has moved so much."""
        if sending != self._sending or self._moved_bytes >= LEAST_BYTES:
            self._sending, self._waited_s, self._moved_bytes = sending, 0.0, 0
        self._waited_s += time.monotonic() - since_s
        self._moved_bytes += moved_bytes
        if self._moved_bytes < LEAST_BYTES and self._waited_s > self._timeout_s:
            raise TimeoutError(f"{self._moved_bytes} bytes in {self._waited_s:.0f} s")


class _Steady(socket.socket):
    """The part that plain and TLS sockets share; `_patience` is set before the first byte."""

    _patience: Patience

    def recv_into(self, buffer: "WriteableBuffer", nbytes: int | None = None, flags: int = 0) -> int:
        since_s = time.monotonic()
        # Plain sockets call "as much as fits" 0, TLS calls it None: both know a number.
        received = super().recv_into(buffer, nbytes or memoryview(buffer).nbytes, flags)
        self._patience.waited(False, since_s, received)
        return received

    def send(self, data: "ReadableBuffer", flags: int = 0) -> int:
        since_s = time.monotonic()
        sent = super().send(data, flags)
        self._patience.waited(True, since_s, sent)
        return sent

    def sendall(self, data: "ReadableBuffer", flags: int = 0) -> None:
        """All of `data`, however long that takes: Python's own has one time-out for the whole."""
        rest = memoryview(data).cast("B")
        while rest:
            rest = rest[self.send(rest, flags) :]


class SteadySocket(_Steady):
    """A copy of the connection `tcp`, which stays open beside it."""

    def __init__(self, tcp: socket.socket, timeout_s: float) -> None:
        super().__init__(tcp.family, tcp.type, tcp.proto, fileno=tcp.dup().detach())
        self.settimeout(timeout_s)
        self._patience = Patience(timeout_s)

    def dup(self) -> socket.socket:  # type: ignore[override]
        """A plain socket: Python's own would make another of this class, without its arguments."""
        copy = socket.socket(self.family, self.type, self.proto, fileno=os.dup(self.fileno()))
        copy.settimeout(self.gettimeout())
        return copy


class SteadyTls(_Steady, ssl.SSLSocket):
    """The same over TLS; made by an `SSLContext` whose `sslsocket_class` it is."""

    def be_steady(self, timeout_s: float) -> None:
        self._patience = Patience(timeout_s)

    def send(self, data: "ReadableBuffer", flags: int = 0) -> int:
        """At most a piece: where a plain socket takes what fits, TLS takes all or waits."""
        return super().send(memoryview(data).cast("B")[:_PIECE_BYTES], flags)
