"""Errors of Azure and its SDK, translated."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import azure.core.exceptions
import pytest
from azure.storage.blob import StandardBlobTier

from providers.api import Limits
from providers.azure import AzureBlob
from providers.azure.errors import Sas, errors
from providers.azure.storage import Container
from providers.errors import AccessDenied, NoBucket, Rejected, StorageError, Unreachable
from providers.testing.streams import BytesSource, MemorySink, content
from tests.contract.place_azure import AzurePlace, serve
from tests.support.http_server import HttpServer, Say

NAME = "backup.zip"
DATA = content(70_000)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], AzurePlace]]:
    with serve(tmp_path_factory.mktemp("azurite")) as fresh_place:
        yield fresh_place


@pytest.fixture
def place(fresh: Callable[[], AzurePlace]) -> AzurePlace:
    return fresh()


def put(options: dict[str, str], data: bytes = DATA) -> None:
    with closing(AzureBlob(options, Limits())) as storage:
        storage.put(NAME, BytesSource(data), {}, {})


def get(options: dict[str, str]) -> bytes:
    sink = MemorySink()
    with closing(AzureBlob(options, Limits())) as storage:
        storage.get(NAME, sink, {})
    return bytes(sink.data)


def sdk_errors() -> list[type[Exception]]:
    classes = (kind for _, kind in inspect.getmembers(azure.core.exceptions, inspect.isclass))
    return [
        kind for kind in classes if issubclass(kind, Exception) and kind.__module__ == "azure.core.exceptions"
    ]


@pytest.mark.parametrize("kind", sdk_errors(), ids=lambda kind: kind.__name__)
def test_every_error_of_the_library_has_a_place(kind: type[Exception]) -> None:
    assert set(kind.__mro__) & errors("https://account/container", Sas("")).keys()


# -- real refusals ----------------------------------------------------------------------------------


def test_a_wrong_container_is_not_found(place: AzurePlace) -> None:
    place.container = "another-container"
    place.sas = place.make_sas()
    with pytest.raises(NoBucket, match="container does not exist"):
        put(place.options(NAME))
    with pytest.raises(NoBucket, match="container does not exist"):
        get(place.options(NAME))


def test_an_expired_sas_says_expired(place: AzurePlace) -> None:
    place.sas = place.make_sas(valid=timedelta(minutes=-1))
    with pytest.raises(AccessDenied, match="expired"):
        put(place.options(NAME))
    with pytest.raises(AccessDenied, match="expired"):
        get(place.options(NAME))


def test_a_wrong_signature_does_not_say_expired(place: AzurePlace) -> None:
    denied = place.denied_options(NAME)
    assert denied
    with pytest.raises(AccessDenied, match="the SAS") as raised:
        put(denied)
    assert "expired" not in str(raised.value)


def test_a_sas_without_the_permission_is_access_denied(place: AzurePlace) -> None:
    place.sas = place.make_sas("r")
    with pytest.raises(AccessDenied, match="does not allow this"):
        put(place.options(NAME))
    place.write(NAME, DATA)
    assert get(place.options(NAME)) == DATA


def test_endpoint_and_sas_are_taken_with_and_without_slash_and_question_mark(place: AzurePlace) -> None:
    put(place.options(NAME))
    plain = {"azure.storage.endpoint": place.endpoint, "azure.shared.access.signature": place.sas}
    assert get(place.options(NAME) | plain) == DATA


def test_a_block_with_another_md5_is_refused(place: AzurePlace) -> None:
    """Azurite checks it, so that the header that we send is known to be the right one."""
    with closing(Container(place.options(NAME), Limits())) as storage:
        far = storage.far(NAME, {}, {})
        far.adopt("")
        with pytest.raises(StorageError):
            far.put_part(1, bytearray(b"damaged"), b"0123456789abcdef")
        with pytest.raises(StorageError):
            far.put_whole(bytearray(b"damaged"), b"0123456789abcdef")
    assert place.names() == []


def test_a_blob_in_the_archive_tier_says_so(place: AzurePlace) -> None:
    """A lifecycle rule moved it there."""
    put(place.options(NAME))
    place.client.get_blob_client(NAME).set_standard_blob_tier(StandardBlobTier.ARCHIVE)
    with pytest.raises(Rejected, match="archive tier"):
        get(place.options(NAME))


# -- answers that the stand-in does not give -----------------------------------------------------------


def stub_options(server: HttpServer, sas: str = "se=2999-01-01&sig=0123456789") -> dict[str, str]:
    return {
        "azure.storage.endpoint": f"http://127.0.0.1:{server.port}/account",
        "azure.blob.container": "container",
        "azure.shared.access.signature": sas,
    }


def refusing(status: int, code: str, headers: dict[str, str] | None = None) -> HttpServer:
    head = {"Connection": "close", "Content-Type": "application/xml", "x-ms-error-code": code}
    body = f"<Error><Code>{code}</Code><Message>sig=0123456789</Message></Error>".encode()
    return HttpServer(lambda _: Say(status, head | (headers or {}), body))


@pytest.mark.parametrize(
    ("status", "code", "kind", "says"),
    [
        (503, "ServerBusy", Unreachable, "HTTP 503"),
        (500, "OperationTimedOut", Unreachable, "HTTP 500"),
        (429, "SomethingNew", Unreachable, "HTTP 429"),
        (403, "SomethingNew", AccessDenied, "HTTP 403"),
        (409, "BlobImmutableDueToPolicy", Rejected, "policy"),
        (412, "LeaseIdMissing", Rejected, "lease"),
        (302, "SomethingNew", Rejected, "HTTP 302"),
        (404, "ContainerNotFound", NoBucket, "container"),
    ],
)
@pytest.mark.parametrize("action", [put, get])
def test_refusals_are_told_apart_and_asked_for_once(
    action: Callable[[dict[str, str]], object], status: int, code: str, kind: type[StorageError], says: str
) -> None:
    with refusing(status, code, {"Location": "http://127.0.0.1:1/elsewhere"}) as server:
        with pytest.raises(kind, match=says) as raised:
            action(stub_options(server))
        assert type(raised.value) is kind
        assert "0123456789" not in str(raised.value)
        assert len(server.requests) == 1


@pytest.mark.parametrize("action", [put, get])
def test_retry_after_is_passed_on(action: Callable[[dict[str, str]], object]) -> None:
    with refusing(503, "ServerBusy", {"Retry-After": "7"}) as server:
        with pytest.raises(Unreachable) as raised:
            action(stub_options(server))
        assert raised.value.retry_after_s == 7


@pytest.mark.parametrize(("hour", "says"), [(11, "not valid"), (13, "expired")])
def test_expired_is_judged_by_the_clock_of_the_service(hour: int, says: str) -> None:
    """The device's own clock may be years off."""
    sas = "se=2026-11-21T12%3A00%3A00Z&sig=0123456789"
    date = format_datetime(datetime(2026, 11, 21, hour, tzinfo=UTC))
    with (
        refusing(403, "AuthenticationFailed", {"Date": date}) as server,
        pytest.raises(AccessDenied, match=says),
    ):
        put(stub_options(server, sas))


@pytest.mark.parametrize("body", [b"", b"<html>a captive portal", b"\xff\x00"])
def test_an_answer_of_something_else_is_an_error_of_the_tree(body: bytes) -> None:
    with HttpServer(lambda _: Say(200, {"Connection": "close"}, body)) as server:
        with pytest.raises(StorageError):
            put(stub_options(server))
        with pytest.raises(StorageError):
            get(stub_options(server))
        with pytest.raises(StorageError), closing(AzureBlob(stub_options(server), Limits())) as storage:
            list(storage.list(""))


def test_a_sas_is_never_shown() -> None:
    assert "0123" not in repr(Sas("sig=0123"))
