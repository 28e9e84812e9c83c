"""Uploads of the generic provider: answers of servers, and the moments at which they come."""

import base64
import hashlib
import traceback
from collections.abc import Callable

import pytest

from providers.api import Limits
from providers.errors import (
    AccessDenied,
    NoSpace,
    NotFound,
    Rejected,
    StorageError,
    TooLarge,
    UnknownOutcome,
    Unreachable,
)
from providers.https import Https
from providers.testing.streams import BytesSource, GeneratedSource, StreamedSource, content
from tests.support.http_server import HttpServer, Received, Say

DATA = content(300_000)
SHORT = Limits(read_timeout_s=0.3)
PATIENT = Limits()


def put(
    url: str,
    options: dict[str, str] | None = None,
    source: BytesSource | None = None,
    limits: Limits = PATIENT,
) -> None:
    storage = Https({"https.url": url, **(options or {})}, limits)
    storage.put("a.zip", source or BytesSource(DATA), {}, {})


def saying(say: Say) -> Callable[[Received], Say]:
    return lambda _: say


def test_a_put_is_one_request_with_length_and_the_options_headers() -> None:
    md5 = hashlib.md5(DATA).digest()
    with HttpServer(saying(Say(201, {"ETag": '"v1"'}))) as server:
        options = {"https.url": f"{server.url}/a.zip?q=1", "https.header.X-Ms-Blob-Type": "BlockBlob"}
        stored = Https(options, Limits()).put("a.zip", BytesSource(DATA, md5=md5), {}, {})
    assert (stored.etag, stored.place, stored.size_bytes) == ('"v1"', f"{server.url}/a.zip", len(DATA))
    [request] = server.requests
    assert (request.method, request.target, request.body) == ("PUT", "/a.zip?q=1", DATA)
    assert request.headers == {
        "host": f"127.0.0.1:{server.port}",
        "user-agent": "edge-backup",
        "accept-encoding": "identity",
        "content-length": str(len(DATA)),
        "content-md5": base64.b64encode(md5).decode(),
        "x-ms-blob-type": "BlockBlob",
    }


def test_post_is_used_when_asked_for() -> None:
    with HttpServer(saying(Say(200))) as server:
        put(server.url, {"https.method": "Post"})
    assert [request.method for request in server.requests] == ["POST"]


def test_credentials_in_the_url_become_basic_authentication() -> None:
    with HttpServer(saying(Say(200))) as server:
        put(server.url.replace("http://", "http://user:p%40ss@"))
    assert server.requests[0].headers["authorization"] == "Basic " + base64.b64encode(b"user:p@ss").decode()


def test_a_stream_without_length_is_rejected_before_anything_is_sent() -> None:
    with HttpServer(saying(Say(200))) as server, pytest.raises(Rejected, match="staged"):
        put(server.url, source=StreamedSource(DATA))
    assert server.requests == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Rejected),
        (401, AccessDenied),
        (403, AccessDenied),
        (404, NotFound),
        (408, Unreachable),
        (410, NotFound),
        (413, TooLarge),
        (422, Rejected),
        (429, Unreachable),
        (500, Unreachable),
        (501, Rejected),
        (503, Unreachable),
        (507, NoSpace),
    ],
)
def test_each_status_has_its_error_and_the_body_is_not_repeated(
    status: int, kind: type[StorageError]
) -> None:
    with (
        HttpServer(saying(Say(status, body=b"words of the server"))) as server,
        pytest.raises(StorageError) as raised,
    ):
        put(f"{server.url}/a.zip?sig=s3cret")
    assert type(raised.value) is kind
    assert str(raised.value) == f"PUT {server.url}/a.zip: HTTP {status}"
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_handed_on(status: int) -> None:
    with (
        HttpServer(saying(Say(status, {"Retry-After": "7"}))) as server,
        pytest.raises(Unreachable) as raised,
    ):
        put(server.url)
    assert raised.value.retry_after_s == 7


def test_an_expired_url_is_called_expired() -> None:
    body = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
    with HttpServer(saying(Say(403, body=body))) as server, pytest.raises(AccessDenied, match="expired"):
        put(server.url)


def test_a_refusal_whose_body_never_comes_is_still_that_refusal() -> None:
    with (
        HttpServer(saying(Say(403, {"Content-Length": "9"}, b"cut", cut_after=2))) as server,
        pytest.raises(AccessDenied),
    ):
        put(server.url)


# -- when the answer comes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "say",
    [Say(hang_up=True), Say(hang=True), Say(raw=b"SSH-2.0-x\r\n")],
    ids=["hangs up", "hangs", "garbled"],
)
def test_no_answer_to_a_whole_upload_is_an_unknown_outcome(say: Say) -> None:
    with HttpServer(saying(say)) as server, pytest.raises(UnknownOutcome):
        put(server.url, limits=SHORT if say.hang else PATIENT)
    assert server.requests[0].body == DATA


def test_a_server_that_hangs_up_in_mid_upload_cannot_have_stored_it() -> None:
    with (
        HttpServer(saying(Say(hang_up=True, read_bytes=1000))) as server,
        pytest.raises(Unreachable) as raised,
    ):
        put(server.url, source=GeneratedSource(64 << 20))
    assert not isinstance(raised.value, UnknownOutcome)


def test_an_answer_in_mid_upload_ends_it() -> None:
    source = GeneratedSource(256 << 20)
    with HttpServer(saying(Say(413, read_bytes=1000))) as server, pytest.raises(TooLarge):
        put(server.url, source=source)
    assert source.tell() < 64 << 20


def test_success_in_mid_upload_is_not_believed() -> None:
    with (
        HttpServer(saying(Say(200, read_bytes=1000))) as server,
        pytest.raises(Unreachable, match="before the whole archive"),
    ):
        put(server.url, source=GeneratedSource(64 << 20))


def test_an_interim_answer_does_not_end_an_upload() -> None:
    with HttpServer(saying(Say(201, interim=b"HTTP/1.1 100 Continue\r\n\r\n"))) as server:
        put(server.url, source=BytesSource(content(20_000_000)))
    assert len(server.requests[0].body) == 20_000_000


# -- redirects ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_keeps_method_body_and_headers_within_the_origin(status: int) -> None:
    def answer(request: Received) -> Say:
        return Say(status, {"Location": "/new?x"}) if request.target == "/old" else Say(201)

    with HttpServer(answer) as server:
        put(f"{server.url}/old", {"https.header.X-Key": "k"})
    first, second = server.requests
    assert (second.method, second.target, second.body) == ("PUT", "/new?x", DATA)
    assert second.headers["x-key"] == first.headers["x-key"] == "k"


def test_a_redirect_in_mid_upload_sends_all_of_it_to_the_new_place() -> None:
    def answer(request: Received) -> Say:
        return Say(307, {"Location": "/new"}, read_bytes=1000) if request.target == "/old" else Say(201)

    with HttpServer(answer) as server:
        put(f"{server.url}/old", source=GeneratedSource(20_000_000))
    assert server.requests[-1].body == content(20_000_000)


def test_a_redirect_to_another_host_and_back_loses_the_options_headers() -> None:
    with (
        HttpServer(lambda request: Say(201)) as home,
        HttpServer(lambda request: Say(307, {"Location": f"{home.url}/back"})) as other,
    ):
        home.answer = lambda request: (
            Say(308, {"Location": f"{other.url}/x"}) if request.target == "/start" else Say(201)
        )
        url = home.url.replace("http://", "http://user:pw@")
        put(f"{url}/start", {"https.header.X-Key": "k", "https.header.Cookie": "c"})
    assert {"x-key", "cookie", "authorization"} <= home.requests[0].headers.keys()
    for request in (other.requests[0], home.requests[1]):
        assert not {"x-key", "cookie", "authorization"} & request.headers.keys()


def test_a_redirect_loop_ends_after_five() -> None:
    with (
        HttpServer(saying(Say(307, {"Location": "/again"}))) as server,
        pytest.raises(Rejected, match="more than 5 times"),
    ):
        put(server.url)
    assert len(server.requests) == 6


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirect_that_would_change_the_method_is_rejected(status: int) -> None:
    with HttpServer(saying(Say(status, {"Location": "/other"}))) as server, pytest.raises(Rejected):
        put(server.url)
    assert len(server.requests) == 1


@pytest.mark.parametrize("location", ["ftp://host/", "http://[", "http://h:99999/"])
def test_a_redirect_to_no_http_address_is_rejected(location: str) -> None:
    with HttpServer(saying(Say(307, {"Location": location}))) as server, pytest.raises(Rejected) as raised:
        put(server.url)
    assert location not in "".join(traceback.format_exception(raised.value)[-1:])
