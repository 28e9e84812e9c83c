"""The connections that the cloud providers share: TLS, proxies, and how they end (`providers.pool`)."""

import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trustme

from providers.api import Limits
from providers.aws import S3
from providers.errors import AccessDenied, IoError, StorageError, Unreachable
from providers.pool import open_pool
from providers.testing.streams import BytesSource
from tests.support.http_server import HttpServer, Received, Say

AUTHORITY = trustme.CA()
SMALL = b"small archive"


def stored(_: Received) -> Say:
    return Say(200, {"ETag": '"opaque"', "Connection": "close"})


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return tmp_path / "ca.pem"


def server_context(host: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(host).configure_cert(context)
    return context


@pytest.fixture
def tls() -> Iterator[HttpServer]:
    with HttpServer(stored, server_context("127.0.0.1")) as server:
        yield server


def put(url: str, limits: Limits) -> None:
    options = {
        "aws.endpoint.url": url,
        "aws.s3.bucket": "bucket",
        "aws.access.key.id": "key",
        "aws.secret.access.key": "secret",
    }
    with closing(S3(options, limits)) as storage:
        storage.put("a.zip", BytesSource(SMALL), {}, {})


def test_a_certificate_of_the_given_authority_is_trusted(tls: HttpServer, ca_file: Path) -> None:
    put(tls.url, Limits(ca_file=ca_file))
    assert tls.requests[0].body == SMALL


def test_a_certificate_of_an_unknown_authority_is_refused_with_a_reason(tls: HttpServer) -> None:
    with pytest.raises(Unreachable, match="certificate is not trusted"):
        put(tls.url, Limits())
    assert tls.requests == []


def test_a_certificate_for_another_host_is_refused(ca_file: Path) -> None:
    with (
        HttpServer(stored, server_context("elsewhere.example")) as server,
        pytest.raises(Unreachable, match="certificate is not trusted"),
    ):
        put(server.url, Limits(ca_file=ca_file))


def test_authorities_that_cannot_be_read_are_named(tls: HttpServer, tmp_path: Path) -> None:
    with pytest.raises(IoError, match=r"missing\.pem"):
        put(tls.url, Limits(ca_file=tmp_path / "missing.pem"))


def test_https_goes_through_a_tunnel(tls: HttpServer, ca_file: Path) -> None:
    with HttpServer(lambda _: Say(200, tunnel=("127.0.0.1", tls.port))) as proxy:
        put(tls.url, Limits(ca_file=ca_file, proxy=proxy.url.replace("http://", "http://user:pw@")))
    [connect] = proxy.requests
    assert (connect.method, connect.target) == ("CONNECT", tls.url.removeprefix("https://"))
    assert connect.headers["proxy-authorization"] == "Basic dXNlcjpwdw=="
    [request] = tls.requests
    assert "proxy-authorization" not in request.headers


def test_http_asks_the_proxy_for_the_whole_url() -> None:
    with HttpServer(stored) as proxy:
        put("http://store.example", Limits(proxy=proxy.url.replace("http://", "http://user:pw@")))
    [request] = proxy.requests
    assert request.target == "http://store.example/bucket/a.zip"
    assert request.headers["proxy-authorization"] == "Basic dXNlcjpwdw=="


@pytest.mark.parametrize(("status", "kind"), [(407, AccessDenied), (503, Unreachable)])
def test_a_proxy_that_refuses_is_named(status: int, kind: type[StorageError], ca_file: Path) -> None:
    with HttpServer(lambda _: Say(status)) as proxy, pytest.raises(kind, match=f"proxy {proxy.url}"):
        put("https://store.example", Limits(ca_file=ca_file, proxy=proxy.url))


def test_a_connection_that_the_server_closes_is_replaced() -> None:
    with HttpServer(lambda _: Say(200, {"Connection": "close"})) as server:
        pool = open_pool(Limits(), server.url)
        for _ in range(3):
            assert pool.urlopen("GET", server.url, redirect=False).status == 200
        pool.clear()
    assert len(server.requests) == 3


def test_the_client_is_boto3_s_and_knows_nothing_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No profile, no credentials and no endpoint of whoever started the agent."""
    (tmp_path / "config").write_text("[default]\nregion = nowhere-9\nendpoint_url = http://127.0.0.1:1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "absent")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-environment")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-the-environment")
    with HttpServer(stored) as server:
        put(server.url, Limits())
    [request] = server.requests
    assert request.headers["user-agent"].startswith("Boto3/")
    assert "Credential=key/" in request.headers["authorization"]
    assert "of-the-environment" not in repr(request.headers)
