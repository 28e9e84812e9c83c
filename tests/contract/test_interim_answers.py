"""Interim answers (1xx) before the final one: any may come, for any request (RFC 9110, 15.2)."""

from collections.abc import Callable
from contextlib import closing

import pytest

from providers.api import Limits, Storage
from providers.errors import StorageError
from providers.testing.streams import BytesSource, GeneratedSource, MemorySink
from tests.support.hostile_server import storage_at
from tests.support.http_server import HttpServer, Received, Say

INTERIM = [
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 102 Processing\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 199 Odd\r\n\r\n",
]
EVERY_INTERIM = pytest.mark.parametrize(
    "interim", [*INTERIM, b"".join(INTERIM)], ids=["100", "102", "103", "199", "all"]
)
FINAL = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 7\r\n\r\narchive'
STORED = b'HTTP/1.1 201 Created\r\nETag: "e"\r\nContent-Length: 0\r\n\r\n'
KINDS = pytest.mark.parametrize("kind", ["generic", "aws", "azure"])


def asked(kind: str, say: Say, call: Callable[[Storage], object]) -> list[Received]:
    with HttpServer(lambda _: say) as server, closing(storage_at(kind, server.url, Limits())) as storage:
        call(storage)
        return server.requests


@KINDS
@EVERY_INTERIM
def test_what_is_fetched_comes_after_interim_answers(kind: str, interim: bytes) -> None:
    sink = MemorySink()
    asked(kind, Say(raw=interim + FINAL), lambda storage: storage.get("a.zip", sink, {}))
    assert sink.data == b"archive"


@KINDS
@EVERY_INTERIM
def test_an_upload_waits_for_the_answer_after_interim_ones(kind: str, interim: bytes) -> None:
    """Azure answers 201, and S3 is as content with that as with 200."""
    (request,) = asked(
        kind, Say(raw=interim + STORED), lambda storage: storage.put("a.zip", BytesSource(b"small"), {}, {})
    )
    assert request.body == b"small"


@EVERY_INTERIM
def test_an_interim_answer_in_mid_upload_does_not_end_it(interim: bytes) -> None:
    size_bytes = 20_000_000
    (request,) = asked(
        "generic",
        Say(201, interim=interim),
        lambda storage: storage.put("a", GeneratedSource(size_bytes), {}, {}),
    )
    assert len(request.body) == size_bytes


def test_a_refusal_after_an_interim_answer_is_seen_while_the_upload_runs() -> None:
    """A quota, say: the rest of a large archive is not sent in vain."""
    refusal = b"HTTP/1.1 507 Full\r\nContent-Length: 0\r\n\r\n"
    say = Say(interim=INTERIM[0] + refusal, read_bytes=1000, raw=b" ")
    with pytest.raises(StorageError, match="HTTP 507"):
        asked("generic", say, lambda storage: storage.put("a", GeneratedSource(64 << 20), {}, {}))


@KINDS
@pytest.mark.parametrize("interim", INTERIM)
def test_interim_answers_without_an_end_are_given_up(kind: str, interim: bytes) -> None:
    answer = Say(raw=interim * ((4 << 20) // len(interim)) + FINAL)
    with pytest.raises(StorageError):
        asked(kind, answer, lambda storage: storage.get("a.zip", MemorySink(), {}))


def test_an_interim_answer_of_a_proxy_comes_before_its_tunnel() -> None:
    with HttpServer(lambda _: Say(raw=INTERIM[2] + b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")) as proxy:
        storage = storage_at("generic", "https://127.0.0.1:1", Limits(proxy=proxy.url))
        with closing(storage), pytest.raises(StorageError, match="HTTP 407"):
            storage.get("a.zip", MemorySink(), {})
