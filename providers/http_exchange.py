"""One HTTP request and its answer, over a connection of its own.

Made for large bodies: the body is read from the source while it is sent, and the caller reads the body of the
answer. Nothing is retried, followed or decoded. Every failure becomes a `StorageError`; the errors of the
source pass unchanged.
"""

import hashlib
import http.client
import logging
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field

from urllib3 import BaseHTTPResponse, HTTPHeaderDict, exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.wait import wait_for_read

from providers.address import Address
from providers.api import Limits, Source
from providers.dial import dialled, proxy_for
from providers.errors import (
    Classify,
    Corrupted,
    Rejected,
    StorageError,
    UnknownOutcome,
    Unreachable,
    means,
    translating,
)
from providers.final_response import FinalResponse
from providers.writeback import CHUNK_BYTES

# The only record of its connections that holds a URL, whose query may be secret.
logging.getLogger("urllib3.connection").addFilter(lambda record: "url=" not in str(record.msg))


_PEEKED_BYTES = 4096
"""Enough for the heads of some interim answers."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request. `headers` are without the framing; the length of `body` has to be known."""

    method: str
    address: Address
    headers: Mapping[str, str] = field(repr=False)
    body: Source | None = None

    @property
    def what(self) -> str:
        return f"{self.method} {self.address.location}"


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and headers of an answer, and its body to be read."""

    status: int
    headers: Mapping[str, str]
    """Looked up without regard to case."""
    whole: bool
    """False when the far side answered before it had taken the whole body."""
    _body: BaseHTTPResponse
    _errors: Mapping[type[BaseException], Classify]

    def read(self, size_bytes: int = CHUNK_BYTES) -> bytes:
        """Return at most `size_bytes` that have arrived; b"" at the end. Raises `Unreachable`."""
        with translating(self._errors):
            return self._body.read1(size_bytes, decode_content=False)


@contextmanager
def exchanged(request: HttpRequest, limits: Limits) -> Iterator[Answer]:
    """Send `request` and yield its answer; close the connection at the end.

    Raises what the body raises, `Corrupted` when the body ends early or has another MD5 than announced (its
    last bytes are then never sent), `UnknownOutcome` when no answer came to a whole body, and
    `Unreachable`, `AccessDenied`, `Rejected` or `IoError` otherwise.
    """
    errors = network_errors(request.what, Unreachable)
    with ExitStack() as stack:
        with translating(errors):
            connected = stack.enter_context(dialled(request.address, limits))
            connection = stack.enter_context(closing(_connection(request.address, connected, limits)))
            _send_head(connection, request, limits)
        body = request.body
        whole = body is None or _send_body(connected, body, errors)
        outcome = UnknownOutcome if body is not None and whole else Unreachable
        with translating(network_errors(request.what, outcome)):
            response = stack.enter_context(closing(connection.getresponse()))
        yield Answer(response.status, response.headers, whole, response, errors)


def network_errors(what: str, broken: type[StorageError]) -> Mapping[type[BaseException], Classify]:
    """Return the table for the errors of the network's libraries; `broken` is that of a lost connection."""

    silent = means(broken, f"{what}: no answer within the time-out")
    lost = means(broken, f"{what}: the connection broke")
    refused = means(Unreachable, f"{what}: the connection cannot be made: check address, port and network")
    garbled = means(broken, f"{what}: the answer is not HTTP")
    unusable = means(Rejected, f"{what}: the request cannot be sent like this")
    untrusted = "the certificate is not trusted: check authorities, host name and the device's clock"
    return {
        OSError: lost,
        ConnectionRefusedError: refused,
        TimeoutError: silent,
        socket.gaierror: means(Unreachable, f"{what}: the host name cannot be resolved"),
        ssl.SSLError: means(broken, f"{what}: TLS failed"),
        ssl.SSLCertVerificationError: means(Unreachable, f"{what}: {untrusted}"),
        http.client.HTTPException: garbled,
        http.client.RemoteDisconnected: lost,
        http.client.IncompleteRead: lost,
        exceptions.HTTPError: lost,
        exceptions.TimeoutError: silent,
        exceptions.NewConnectionError: refused,
        exceptions.DecodeError: garbled,
        exceptions.HeaderParsingError: garbled,
        exceptions.BodyNotHttplibCompatible: garbled,
        exceptions.PoolError: unusable,
        exceptions.TimeoutStateError: unusable,
        exceptions.LocationValueError: unusable,
        exceptions.InvalidHeader: unusable,
        exceptions.UnrewindableBodyError: unusable,
        exceptions.ProxySchemeUnsupported: unusable,
    }


def _connection(address: Address, connected: socket.socket, limits: Limits) -> HTTPConnection:
    kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
    connection = kind(address.host, address.port, timeout=limits.read_timeout_s)
    connection.sock = connected
    connection.response_class = FinalResponse
    return connection


def _send_head(connection: HTTPConnection, request: HttpRequest, limits: Limits) -> None:
    address = request.address
    headers = HTTPHeaderDict({"User-Agent": "edge-backup"})
    if address.authorization:
        headers["Authorization"] = address.authorization
    headers.update(request.headers)
    headers["Accept-Encoding"] = "identity"  # an archive is to arrive as it was stored
    if request.body is not None:
        headers["Content-Length"] = str(request.body.size)
    target = address.target
    if address.scheme == "http" and (proxy := proxy_for(address, limits)):
        target = address.base + address.target
        if proxy.authorization:
            headers["Proxy-Authorization"] = proxy.authorization
    connection.request(request.method, target, headers=headers, preload_content=False)


def _send_body(
    connected: socket.socket, body: Source, errors: Mapping[type[BaseException], Classify]
) -> bool:
    """Send `body` to its announced end; return False when the far side answered or closed before."""
    left = body.size or 0
    digest = hashlib.md5(usedforsecurity=False)
    while left:
        chunk = body.read(min(CHUNK_BYTES, left))
        left -= len(chunk)
        if not chunk:
            raise Corrupted(
                f"the archive ended {left} bytes before its announced {body.size}: nothing is stored"
            )
        if body.md5:
            digest.update(chunk)
            # The last bytes stay here when the hash is wrong, so that the far side stores nothing.
            if not left and digest.digest() != body.md5:
                raise Corrupted("the archive's MD5 is not the announced one: nothing is stored")
        with translating(errors):
            if not _send_chunk(connected, chunk):
                return False
    return True


def _send_chunk(connected: socket.socket, chunk: bytes) -> bool:
    rest = memoryview(chunk)
    try:
        while rest:
            if _answered(connected):
                return False
            rest = rest[connected.send(rest) :]
    except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
        return False  # closed, perhaps after an answer that is still to be read
    return True


def _answered(connected: socket.socket) -> bool:
    """Return True when the final answer has come, or the end; interim answers (1xx) do not count.

    Over TLS that cannot be seen, since session tickets come at any time: the answer is read after sending.
    """
    if isinstance(connected, ssl.SSLSocket) or not wait_for_read(connected, timeout=0):
        return False
    seen = connected.recv(_PEEKED_BYTES, socket.MSG_PEEK)
    if not seen:
        return True
    while seen.startswith(b"HTTP/1.1 1"):
        _, _, seen = seen.partition(b"\r\n\r\n")
    return bool(seen)
