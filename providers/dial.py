"""Connections to an address: opened by `Limits.connect`, through a proxy if configured, with TLS."""

import ipaddress
import socket
import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from urllib.request import getproxies, proxy_bypass

from providers.address import Address, parse_address
from providers.api import Connect, Limits
from providers.errors import IoError, Rejected, from_http_status
from providers.final_response import FinalResponse
from providers.stall_timeout import StallTimeoutSocket, StallTimeoutTls

_NO_PROXY_URL = "the proxy in the settings or the environment must be an http:// URL"


@contextmanager
def dialled(address: Address, limits: Limits) -> Iterator[socket.socket]:
    """Open a connection for HTTP to `address`, or to the proxy of an http address; close it at the end.

    `limits.read_timeout_s` bounds each wait for the far side, in either direction, and also the time for
    `providers.stall_timeout.LEAST_BYTES`, however steadily single bytes come. Raises what
    `limits.connect` raises, OSError and `http.client.HTTPException`, and `StorageError` when the device
    does not allow the address, the proxy refuses, or a setting is wrong.
    """
    check_allowed(address, limits)
    proxy = proxy_for(address, limits)
    opened = dialled_proxy(proxy, limits) if proxy else _prepared(limits.connect, address, limits)
    with opened as tcp:
        if address.scheme == "http":
            yield tcp
            return
        if proxy:
            _tunnel(tcp, proxy, address)
        with closing(_encrypted(tcp, address, limits)) as tls:
            yield tls


def dialled_proxy(proxy: Address, limits: Limits) -> AbstractContextManager[socket.socket]:
    """Open a connection to `proxy`. The caller checks its requests (`check_allowed`)."""
    return _prepared(limits.connect_proxy, proxy, limits)


@contextmanager
def _prepared(connect: Connect, hop: Address, limits: Limits) -> Iterator[socket.socket]:
    with closing(connect(hop.host, hop.port)) as tcp:
        tcp.settimeout(limits.read_timeout_s)
        # Head and body go out in two writes: without this the second may wait for a delayed ACK.
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with closing(StallTimeoutSocket(tcp, limits.read_timeout_s)) as limited:
            yield limited


def check_allowed(address: Address, limits: Limits) -> None:
    """Raise `NotAllowed` when it is known without the network that the device does not allow `address`."""
    limits.allow.check_url(address, resolved_by_proxy=proxy_for(address, limits) is not None)


def proxy_for(address: Address, limits: Limits) -> Address | None:
    """Return `limits.proxy`, else HTTPS_PROXY or HTTP_PROXY; None for hosts and networks of NO_PROXY.

    Raises `Rejected` when the proxy's URL cannot be used.
    """
    configured = getproxies()
    if proxy_bypass(f"{address.host}:{address.port}") or _is_in(address.host, configured.get("no", "")):
        return None
    url = limits.proxy or configured.get(address.scheme)
    return parse_proxy(url) if url else None


def parse_proxy(url: str) -> Address:
    """Return the address of a proxy, whose URL may lack the scheme.

    Raises `Rejected`, without the URL, which may have a password.
    """
    try:
        proxy = parse_address(url if "://" in url else f"http://{url}")
    except ValueError as error:
        raise Rejected(_NO_PROXY_URL) from error
    if proxy.scheme != "http":
        raise Rejected(_NO_PROXY_URL)
    return proxy


def _is_in(host: str, networks: str) -> bool:
    """Return True for an address in one of the networks, such as `10.0.0.0/8`, in the list."""
    with suppress(ValueError):
        ip = ipaddress.ip_address(host)
        for text in networks.split(","):
            with suppress(ValueError):
                if ip in ipaddress.ip_network(text.strip(), strict=False):
                    return True
    return False


def tls_context(limits: Limits) -> ssl.SSLContext:
    """Return a context that verifies host name and certificate, against `limits.ca_file` if it is set.

    Raises `IoError` when the file cannot be read or holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=limits.ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise IoError(
            f"authorities '{limits.ca_file}': expected a readable PEM file with certificates"
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _encrypted(tcp: socket.socket, address: Address, limits: Limits) -> ssl.SSLSocket:
    """Return TLS over `tcp`, which stays open beside it. Raises OSError."""
    context = tls_context(limits)
    context.sslsocket_class = StallTimeoutTls
    # `wrap_socket` loses the descriptor of a connection that was reset by now, or skips the handshake.
    tcp.getpeername()
    # It also takes the descriptor out of its socket. A copy keeps the socket of `limits.connect`, which a
    # cancel shuts down, connected.
    tls = context.wrap_socket(tcp.dup(), server_hostname=address.host)
    if tls.version() is None:
        tls.close()
        raise ConnectionResetError("the connection was reset before the handshake")
    assert isinstance(tls, StallTimeoutTls)
    tls.limit_stalls(limits.read_timeout_s)
    return tls


def _tunnel(tcp: socket.socket, proxy: Address, address: Address) -> None:
    """Ask `proxy` for a tunnel to `address` (CONNECT, RFC 9110 9.3.6)."""
    host = f"[{address.host}]" if ":" in address.host else address.host.encode("idna").decode()
    lines = [f"CONNECT {host}:{address.port} HTTP/1.1", f"Host: {host}:{address.port}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    tcp.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
    with closing(FinalResponse(tcp, method="CONNECT")) as answer:
        answer.begin()
        if not 200 <= answer.status < 300:
            what = f"proxy {proxy.base} asked for {address.base}"
            raise from_http_status(answer.status, what, {})
