"""A pool of HTTP connections, opened by `providers.dial`, for the cloud SDKs and REST servers.

They make many small exchanges with one host, so connections are kept between them. Nothing in here
retries, and nothing follows a redirect. Answers that are no archives are limited (`control_answer`).
"""

import io
import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, ClassVar

from urllib3 import BaseHTTPResponse, HTTPResponse, PoolManager, ProxyManager, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import RequestError

from providers.address import parse_address
from providers.api import Limits
from providers.dial import check_allowed, dialled, dialled_proxy, proxy_for
from providers.errors import Rejected, Unreachable, translating
from providers.final_response import FinalResponse
from providers.http_exchange import network_errors
from providers.writeback import CHUNK_BYTES

# Its debug lines, and one of its warnings, hold URLs, whose queries may be secret.
logging.getLogger("urllib3").setLevel(logging.CRITICAL)

MOST_BYTES = 8 << 20
"""Enough for a list of a thousand long names."""
MOST_MARKS = 100_000
"""Tags and attributes of a body: each becomes objects that are much larger than its text."""
MOST_ERROR_BYTES = 64 << 10
"""Longer texts of errors are not read."""
_READ_TIMEOUTS = 10
"""The time limit of an answer, in read time-outs."""


def open_pool(limits: Limits, url: str) -> PoolManager:
    """Return a pool for the host of `url`, without a connection yet. Raises `Rejected` for a bad proxy.

    Its requests raise the errors of urllib3, and `StorageError` when no connection can be made.
    """
    address = parse_address(url)
    timeout = Timeout(connect=limits.connect_timeout_s, read=limits.read_timeout_s)
    pool = PoolManager(timeout=timeout, retries=False)
    # To an https address `dialled` makes a tunnel through the proxy; for http the proxy is asked itself.
    if address.scheme == "http" and (proxy := proxy_for(address, limits)):
        headers = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else None
        pool = _ByProxy(proxy.base, proxy_headers=headers, timeout=timeout, retries=False)
        pool.limits = limits
    pool.pool_classes_by_scheme = _pools(limits)
    return pool


def send_request(
    pool: PoolManager,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | bytearray | None = None,
) -> BaseHTTPResponse:
    """Send a request; the body of the answer is not read yet. Raises what urllib3 raises."""
    try:
        return pool.urlopen(
            method,
            url,
            body=body,
            headers=headers,
            redirect=False,
            preload_content=False,
            decode_content=False,
        )
    except RequestError as error:
        error.url = None  # a signature may be in it
        raise


def control_answer(reply: BaseHTTPResponse, limits: Limits, most_marks: int = MOST_MARKS) -> HTTPResponse:
    """Return `reply` with its whole body in memory; its connection is free for the next request.

    The body of an error is left out when it is too long. Raises `Rejected` for another body that is too long
    or encoded, `Unreachable` for one that takes too long, and what urllib3 raises.
    """
    most_bytes = MOST_BYTES if reply.status < 300 else MOST_ERROR_BYTES
    if reply.headers.get("Content-Encoding", "identity") != "identity":
        most_bytes = 0  # the request did not allow it, and it may unpack to any size
    body = _read(reply, most_bytes, time.monotonic() + _READ_TIMEOUTS * limits.read_timeout_s)
    if body is None or body.count(b"<") + body.count(b"=") > most_marks:
        body = None
        reply.close()
        if reply.status < 300:
            raise Rejected("the answer is encoded, or larger than the answers of a store are")
    return HTTPResponse(
        io.BytesIO(body or b""),
        reply.headers,
        reply.status,
        preload_content=False,
        decode_content=False,
        enforce_content_length=False,  # `reply` was
    )


def _read(reply: BaseHTTPResponse, most_bytes: int, until_s: float) -> bytes | None:
    """Return the body; None when it has more than `most_bytes`."""
    body = bytearray()
    while chunk := reply.read1(CHUNK_BYTES, decode_content=False):
        body += chunk
        if len(body) > most_bytes:
            return None
        if time.monotonic() > until_s:
            reply.close()
            raise Unreachable("the answer did not end in time")
    return bytes(body)


class _ByProxy(ProxyManager):
    """For http: one connection to the proxy serves many hosts, so every request is checked."""

    limits: Limits

    def urlopen(  # type: ignore[override]  # as urllib3's own
        self, method: str, url: str, redirect: bool = True, **settings: Any
    ) -> BaseHTTPResponse:
        check_allowed(parse_address(url), self.limits)
        return super().urlopen(method, url, redirect=redirect, **settings)


class _Dialled(HTTPConnection):
    """A connection of urllib3's that we open and close."""

    scheme: ClassVar[str] = "http"
    response_class = FinalResponse
    allowed: ClassVar[Limits]
    _closing: ExitStack | None = None

    def connect(self) -> None:
        host = f"[{self.host}]" if ":" in self.host else self.host
        address = parse_address(f"{self.scheme}://{host}:{self.port}")
        self._closing = ExitStack()
        dial = dialled_proxy if self.proxy else dialled
        with translating(network_errors(address.base, Unreachable)):
            self.sock = self._closing.enter_context(dial(address, self.allowed))

    def close(self) -> None:
        super().close()
        if self._closing:
            self._closing.close()


class _DialledTls(_Dialled, HTTPSConnection):
    scheme = "https"
    is_verified = True  # `dialled` gives no connection that is not


def _pools(limits: Limits) -> dict[str, type[HTTPConnectionPool]]:
    """Return urllib3's own pools, with our connections in them."""

    class Plain(_Dialled):
        allowed = limits

    class Tls(_DialledTls):
        allowed = limits

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = Tls

    return {"http": PlainPool, "https": TlsPool}
