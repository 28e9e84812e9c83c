"""Sockets with a time-out for a far side that is almost silent.

A usual time-out starts anew with each byte: a server with one byte in ten seconds would never reach it. These
sockets add up the time they wait until enough bytes have passed in one direction. The slowness of the device,
of a disk or a rate limit, does not count (unlike curl's `--speed-limit` and `--speed-time`).
"""

import os
import socket
import ssl
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

LEAST_BYTES = 4096
"""Must pass within the time-out. By default 70 bytes a second: slower than any working link."""
_PIECE_BYTES = 1 << 16  # given to TLS at a time: 64 KiB within the time-out are slow, and no stall


class Patience:
    """Adds up the time spent waiting for the far side. Raises `TimeoutError` when that is too long."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._sending = False
        self._waited_s, self._moved_bytes = 0.0, 0

    def waited(self, sending: bool, since_s: float, moved_bytes: int) -> None:
        """Count a call that began at `since_s` (monotonic) and moved these bytes. Raises `TimeoutError`."""
        if sending != self._sending or self._moved_bytes >= LEAST_BYTES:
            self._sending, self._waited_s, self._moved_bytes = sending, 0.0, 0
        self._waited_s += time.monotonic() - since_s
        self._moved_bytes += moved_bytes
        if self._moved_bytes < LEAST_BYTES and self._waited_s > self._timeout_s:
            raise TimeoutError(f"{self._moved_bytes} bytes in {self._waited_s:.0f} s")


class _StallTimeout(socket.socket):
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
        """Send all of `data`, however long that takes: Python's own has one time-out for the whole."""
        rest = memoryview(data).cast("B")
        while rest:
            rest = rest[self.send(rest, flags) :]


class StallTimeoutSocket(_StallTimeout):
    """A copy of the connection `tcp`, which stays open beside it."""

    def __init__(self, tcp: socket.socket, timeout_s: float) -> None:
        super().__init__(tcp.family, tcp.type, tcp.proto, fileno=tcp.dup().detach())
        self.settimeout(timeout_s)
        self._patience = Patience(timeout_s)

    def dup(self) -> socket.socket:  # type: ignore[override]
        """Return a plain socket: Python's own would call this class, without its arguments."""
        copy = socket.socket(self.family, self.type, self.proto, fileno=os.dup(self.fileno()))
        copy.settimeout(self.gettimeout())
        return copy


class StallTimeoutTls(_StallTimeout, ssl.SSLSocket):
    """The TLS socket; made by an `SSLContext` with this `sslsocket_class`."""

    def limit_stalls(self, timeout_s: float) -> None:
        self._patience = Patience(timeout_s)

    def send(self, data: "ReadableBuffer", flags: int = 0) -> int:
        """Send at most a piece: a plain socket takes what fits, TLS takes all or waits."""
        return super().send(memoryview(data).cast("B")[:_PIECE_BYTES], flags)
