"""How the generic provider reaches a server: TLS, proxies, and what every foreign exception becomes."""

import http.client
import inspect
import logging
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import trustme
import urllib3.exceptions

from providers.address import parse_address
from providers.api import Limits
from providers.dial import proxy_for
from providers.errors import (
    AccessDenied,
    IoError,
    Rejected,
    StorageError,
    TooLarge,
    UnknownOutcome,
    Unreachable,
)
from providers.http_exchange import network_errors
from providers.https import Https
from providers.testing.streams import BytesSource, GeneratedSource, MemorySink, content
from tests.support.http_server import HttpServer, Say
from tests.support.nginx import Nginx, nginx

DATA = content(300_000)
AUTHORITY = trustme.CA()


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with nginx(tmp_path_factory.mktemp("nginx")) as server:
        yield server


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return tmp_path / "ca.pem"


def server_context(*names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(*names).configure_cert(context)
    return context


def put(url: str, limits: Limits, source: BytesSource | None = None) -> None:
    Https({"https.url": url}, limits).put("a.zip", source or BytesSource(DATA), {}, {})


# -- TLS ----------------------------------------------------------------------------------------------


def test_a_certificate_of_the_given_authority_is_trusted(ca_file: Path) -> None:
    with HttpServer(lambda _: Say(201), server_context("127.0.0.1")) as server:
        put(server.url, Limits(ca_file=ca_file))
    assert server.requests[0].body == DATA


def test_the_host_name_is_the_one_of_the_url_however_it_was_reached(ca_file: Path) -> None:
    """The server of many hosts picks its certificate by that name (SNI), and it is what gets verified."""
    asked: list[str | None] = []
    context = server_context("backup.example")
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    with HttpServer(lambda _: Say(201), context) as server:

        def connect(host: str, port: int) -> socket.socket:
            assert (host, port) == ("backup.example", 443)
            return socket.create_connection(("127.0.0.1", server.port))

        put("https://backup.example/a.zip", Limits(ca_file=ca_file, connect=connect))
    assert asked == ["backup.example"]
    assert server.requests[0].headers["host"] == "backup.example"


@pytest.mark.parametrize("environment", ["with", "without"])
def test_a_certificate_of_an_unknown_authority_is_refused(
    environment: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if environment == "without":
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"):
            monkeypatch.delenv(name, raising=False)
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    with HttpServer(lambda _: Say(201), server_context("127.0.0.1")) as server:
        for limits in (Limits(), Limits(ca_file=tmp_path / "other.pem")):
            with pytest.raises(Unreachable, match="certificate is not trusted"):
                put(server.url, limits)
    assert server.requests == []


def test_the_given_authority_takes_the_place_of_the_systems(
    ca_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    with HttpServer(lambda _: Say(201), server_context("127.0.0.1")) as server:
        put(server.url, Limits())
        with pytest.raises(Unreachable):
            put(server.url, Limits(ca_file=tmp_path / "other.pem"))


def test_authorities_that_were_replaced_are_used_for_the_next_connection(tmp_path: Path) -> None:
    """Without a restart; `limits` stay the same."""
    limits = Limits(ca_file=tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with HttpServer(lambda _: Say(201), server_context("127.0.0.1")) as server:
        with pytest.raises(Unreachable, match="certificate is not trusted"):
            put(server.url, limits)
        AUTHORITY.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        put(server.url, limits)


def test_a_certificate_for_another_host_is_refused(ca_file: Path) -> None:
    with (
        HttpServer(lambda _: Say(201), server_context("elsewhere.example")) as server,
        pytest.raises(Unreachable, match="certificate is not trusted"),
    ):
        put(server.url, Limits(ca_file=ca_file))
    assert server.requests == []


def test_tls_before_1_2_is_refused(ca_file: Path) -> None:
    context = server_context("127.0.0.1")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with HttpServer(lambda _: Say(201), context) as server, pytest.raises(Unreachable, match="TLS failed"):
        put(server.url, Limits(ca_file=ca_file))
    assert server.requests == []


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_an_unusable_file_of_authorities_is_named(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "ca.pem").write_text(text)
    with (
        HttpServer(lambda _: Say(201), server_context("127.0.0.1")) as server,
        pytest.raises(IoError, match=r"ca\.pem"),
    ):
        put(server.url, Limits(ca_file=tmp_path / "ca.pem"))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_refusal_in_mid_upload_is_read_from_nginx(web: Nginx, scheme: str) -> None:
    url = web.http_url if scheme == "http" else web.https_url
    with pytest.raises(TooLarge):
        put(f"{url}/small/a.zip", Limits(ca_file=web.ca_file), GeneratedSource(32 << 20))
    assert list((web.root / "small").iterdir()) == []


def test_a_refusal_in_mid_upload_is_read_over_tls_from_a_server_that_hangs_up(ca_file: Path) -> None:
    answer = Say(413, read_bytes=1000)
    with HttpServer(lambda _: answer, server_context("127.0.0.1")) as server, pytest.raises(TooLarge):
        put(server.url, Limits(ca_file=ca_file), GeneratedSource(32 << 20))


def test_https_is_never_left_for_http(ca_file: Path) -> None:
    with HttpServer(lambda _: Say(201)) as plain:
        redirect = Say(307, {"Location": f"{plain.url}/x"})
        with HttpServer(lambda _: redirect, server_context("127.0.0.1")) as server:
            limits = Limits(ca_file=ca_file)
            with pytest.raises(Rejected, match="https to http"):
                put(server.url, limits)
            with pytest.raises(Rejected, match="https to http"):
                Https({"https.url": server.url}, limits).get("a.zip", MemorySink(), {})
    assert plain.requests == []


# -- proxies ------------------------------------------------------------------------------------------


def test_https_goes_through_a_tunnel_and_is_verified_to_its_end(ca_file: Path) -> None:
    with HttpServer(lambda _: Say(201), server_context("127.0.0.1")) as server:
        tunnel = Say(200, tunnel=("127.0.0.1", server.port))
        with HttpServer(lambda _: tunnel) as proxy:
            url = proxy.url.replace("http://", "http://user:pw@")
            put(f"{server.url}/a.zip?sig=s3cret", Limits(ca_file=ca_file, proxy=url))
    [connect] = proxy.requests
    assert (connect.method, connect.target) == ("CONNECT", f"127.0.0.1:{server.port}")
    assert connect.headers["proxy-authorization"] == "Basic dXNlcjpwdw=="
    [request] = server.requests
    assert request.body == DATA
    assert "proxy-authorization" not in request.headers


def test_http_asks_the_proxy_for_the_whole_url() -> None:
    with HttpServer(lambda _: Say(201)) as proxy:
        put("http://backup.example/a.zip?q", Limits(proxy=proxy.url.replace("http://", "http://user:pw@")))
    [request] = proxy.requests
    assert (request.target, request.headers["host"]) == ("http://backup.example/a.zip?q", "backup.example")
    assert request.headers["proxy-authorization"] == "Basic dXNlcjpwdw=="
    assert request.body == DATA


def test_the_environment_names_the_proxy_and_the_exceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    with HttpServer(lambda _: Say(201)) as server, HttpServer(lambda _: Say(201)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        put(server.url, Limits())
        assert (len(server.requests), len(proxy.requests)) == (0, 1)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        put(server.url, Limits())
        put(server.url, Limits(proxy=proxy.url))
        assert (len(server.requests), len(proxy.requests)) == (2, 1)


@pytest.mark.parametrize(
    ("exceptions", "host", "is_excepted"),
    [
        ("backup.example, 10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8,x/y,/", "11.1.2.3", False),
        ("10.1.2.3/8", "10.9.9.9", True),
        ("fd00::/8", "fd00::1", True),
        ("0.0.0.0/0", "backup.example", False),
    ],
)
def test_the_exceptions_may_be_networks(
    exceptions: str, host: str, is_excepted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """boto#1515, synapse#19114: as curl and Go take them; Python's own function does not."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", exceptions)
    address = parse_address(f"http://{f'[{host}]' if ':' in host else host}:9000/")
    assert (proxy_for(address, Limits()) is None) == is_excepted


@pytest.mark.parametrize(("status", "kind"), [(407, AccessDenied), (403, AccessDenied), (502, Unreachable)])
def test_a_proxy_that_refuses_is_named(status: int, kind: type[StorageError]) -> None:
    with (
        HttpServer(lambda _: Say(status)) as proxy,
        pytest.raises(kind, match="proxy http://127") as raised,
    ):
        put("https://backup.example/", Limits(proxy=proxy.url))
    assert type(raised.value) is kind


def test_a_proxy_that_is_no_http_url_is_rejected_without_showing_it() -> None:
    with pytest.raises(Rejected) as raised:
        put("https://backup.example/", Limits(proxy="socks5://user:s3cret@host"))
    assert "s3cret" not in str(raised.value)


# -- secrets and exceptions ---------------------------------------------------------------------------


def test_a_garbled_header_does_not_bring_the_url_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("urllib3.connection").setLevel(logging.DEBUG)
    with HttpServer(lambda _: Say(raw=b"HTTP/1.1 201 Created\r\nno header at all\r\nX: y\r\n\r\n")) as server:
        put(f"{server.url}/a.zip?sig=s3cret", Limits())
    assert "s3cret" not in caplog.text


def exceptions_of(module: ModuleType) -> list[type[BaseException]]:
    """Those that it defines, without the warnings."""
    return [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, BaseException)
        and not issubclass(kind, Warning)
        and kind.__module__ == module.__name__
    ]


@pytest.mark.parametrize(
    "kind",
    [
        *exceptions_of(urllib3.exceptions),
        *exceptions_of(http.client),
        *exceptions_of(ssl),
        socket.gaierror,
        OSError,
    ],
    ids=lambda kind: f"{kind.__module__}.{kind.__name__}",
)
def test_every_exception_of_the_network_libraries_has_a_place(kind: type[BaseException]) -> None:
    table = network_errors("PUT http://host/", UnknownOutcome)
    assert any(parent in table for parent in kind.__mro__)


def test_what_was_never_connected_has_no_unknown_outcome() -> None:
    table = network_errors("PUT http://host/", UnknownOutcome)
    for kind in (ConnectionRefusedError, socket.gaierror, ssl.SSLCertVerificationError):
        assert type(table[kind](kind())) is Unreachable
