"""No provider connects to hosts that the device does not allow, also after a redirect or by a proxy."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Protocol

import pytest

from agent.transfer.connections import Connections
from providers.allow import Allow, host_pattern
from providers.api import Limits, Storage
from providers.aws import S3
from providers.azure import AzureBlob
from providers.errors import NotAllowed, StorageError
from providers.https import Https
from providers.testing.streams import BytesSource, MemorySink
from tests.support.http_server import HttpServer, Received, Say

Open = Callable[[str, Limits], Storage]


def https(url: str, limits: Limits) -> Storage:
    return Https({"https.url": f"{url}/a.zip"}, limits)


def aws(url: str, limits: Limits) -> Storage:
    keys = {"aws.access.key.id": "key", "aws.secret.access.key": "secret"}
    return S3({"aws.endpoint.url": url, "aws.s3.bucket": "bucket", **keys}, limits)


def azure(url: str, limits: Limits) -> Storage:
    sas = {"azure.shared.access.signature": "sig=x", "azure.blob.container": "container"}
    return AzureBlob({"azure.storage.endpoint": url, **sas}, limits)


PROVIDERS = pytest.mark.parametrize("opened", [https, aws, azure])


class AsTheAgentMakesThem(Protocol):
    def __call__(self, allow: Allow, proxy: str | None = None) -> Limits: ...


@pytest.fixture
def limits_of() -> Iterator[AsTheAgentMakesThem]:
    connections = Connections(5)

    def make(allow: Allow, proxy: str | None = None) -> Limits:
        return Limits(
            allow=allow,
            connect=lambda host, port: connections.open(host, port, allow.check_address),
            connect_proxy=connections.open,
            proxy=proxy,
        )

    with closing(connections):
        yield make


def preflight(storage: Storage) -> None:
    storage.preflight(True)


def put(storage: Storage) -> object:
    return storage.put("a.zip", BytesSource(b"data"), {}, {})


def get(storage: Storage) -> object:
    return storage.get("a.zip", MemorySink(), {})


def stored(_: Received) -> Say:
    return Say(201, {"ETag": '"opaque"', "Connection": "close"})


@PROVIDERS
def test_a_name_is_refused_when_it_turns_out_to_be_the_device_itself(
    opened: Open, limits_of: AsTheAgentMakesThem
) -> None:
    """Accepted, because a name says nothing; refused for the address that it has, unconnected."""
    with HttpServer(stored) as server:
        limits = limits_of(Allow(loopback=False))
        with closing(opened(f"http://localhost:{server.port}", limits)) as storage:
            preflight(storage)
            with pytest.raises(NotAllowed, match=r"allow\.loopback"):
                put(storage)
            with pytest.raises(NotAllowed, match=r"allow\.loopback"):
                get(storage)
    assert server.requests == []


@PROVIDERS
@pytest.mark.parametrize(
    ("url", "allow", "setting"),
    [
        ("http://169.254.169.254", Allow(), "allow.hosts"),
        ("http://[::ffff:169.254.169.254]", Allow(), "allow.hosts"),
        ("http://2852039166", Allow(), "allow.hosts"),
        ("http://127.0.0.1", Allow(loopback=False), "allow.loopback"),
        ("http://backup.example", Allow(plain_http=False), "allow.plainHttp"),
        ("https://elsewhere.example", Allow(hosts=("backup.example",)), "allow.hosts"),
        ("https://backup.example", Allow(buckets=("other",)), "allow.buckets"),
    ],
)
def test_what_is_known_before_is_refused_before(
    opened: Open, url: str, allow: Allow, setting: str, limits_of: AsTheAgentMakesThem
) -> None:
    """Nothing is resolved or connected to; and would be refused once more if somebody tried."""

    def unwanted(_host: str, _port: int) -> socket.socket:
        raise AssertionError("a connection was opened")

    limits = replace(limits_of(allow), connect=unwanted, connect_proxy=unwanted)
    with closing(opened(url, limits)) as storage:
        with pytest.raises(NotAllowed) as refused:
            preflight(storage)
        assert setting in str(refused.value)
        if setting != "allow.buckets":
            with pytest.raises(NotAllowed):
                put(storage)


def test_a_bucket_at_aws_is_a_host_like_any_other(limits_of: AsTheAgentMakesThem) -> None:
    """Without an endpoint the host is the SDK's to make up, from region and bucket."""
    keys = {"aws.access.key.id": "key", "aws.secret.access.key": "secret"}
    options = {"aws.region": "eu-central-1", "aws.s3.bucket": "theirs", **keys}
    allow = Allow(hosts=("ours.s3.eu-central-1.amazonaws.com",))
    with closing(S3(options, limits_of(allow))) as storage:
        preflight(storage)
        with pytest.raises(NotAllowed, match=r"'theirs\.s3\.eu-central-1\.amazonaws\.com'"):
            put(storage)


@PROVIDERS
def test_a_proxy_is_not_asked_for_what_is_not_allowed(opened: Open, limits_of: AsTheAgentMakesThem) -> None:
    """By its own name the proxy is where its owner put it, on loopback say; that is nobody else's way in."""
    with HttpServer(stored) as proxy:
        for allow in (Allow(hosts=("backup.example",)), Allow(hosts=("*",), loopback=False)):
            limits = limits_of(allow, proxy.url)
            for url in ("http://169.254.169.254", f"https://127.0.0.1:{proxy.port}", "https://0x7f.1"):
                with closing(opened(url, limits)) as storage, pytest.raises(NotAllowed):
                    put(storage)
        limits = limits_of(Allow(hosts=(host_pattern("10.0.0.0/8"),)), proxy.url)
        with closing(opened("http://nas.example", limits)) as storage, pytest.raises(NotAllowed):
            put(storage)
    assert proxy.requests == []


@PROVIDERS
def test_a_proxy_is_asked_for_what_is_allowed(opened: Open, limits_of: AsTheAgentMakesThem) -> None:
    with HttpServer(stored) as proxy:
        limits = limits_of(Allow(hosts=("backup.example",), loopback=False), proxy.url)
        with closing(opened("http://backup.example", limits)) as storage:
            put(storage)
    assert proxy.requests[0].target.startswith("http://backup.example/")


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::1]/",
        "//0xa9fea9fe/",
        "https://127.0.0.2:9/",
    ],
)
def test_a_redirect_is_a_destination_too(location: str, limits_of: AsTheAgentMakesThem) -> None:
    allow = Allow(hosts=("backup.example", host_pattern("127.0.0.1")))
    with HttpServer(lambda _: Say(307, {"Location": location})) as server:
        for work in (put, get):
            with pytest.raises(NotAllowed):
                work(https(server.url, limits_of(allow)))
    assert len(server.requests) == 2


def test_a_redirect_to_what_is_allowed_is_followed_to_the_address_that_is(
    limits_of: AsTheAgentMakesThem,
) -> None:
    """`localhost` may have several addresses."""

    def answer(request: Received) -> Say:
        location = f"http://localhost:{server.port}/"
        return stored(request) if "localhost" in request.headers["host"] else Say(307, {"Location": location})

    with HttpServer(answer) as server:
        put(https(server.url, limits_of(Allow(hosts=(host_pattern("127.0.0.1"),)))))
    assert len(server.requests) == 2


@pytest.mark.parametrize("opened", [aws, azure])
@pytest.mark.parametrize("work", [put, get])
def test_the_cloud_sdks_follow_no_redirect_at_all(
    opened: Open, work: Callable[[Storage], object], limits_of: AsTheAgentMakesThem
) -> None:
    with HttpServer(stored) as elsewhere:
        away = Say(307, {"Location": f"{elsewhere.url}/b/a.zip", "Connection": "close"})
        with (
            HttpServer(lambda _: away) as server,
            closing(opened(server.url, limits_of(Allow()))) as storage,
            pytest.raises(StorageError, match=r"redirects elsewhere|HTTP 307"),
        ):
            work(storage)
    assert (len(server.requests), len(elsewhere.requests)) == (1, 0)
