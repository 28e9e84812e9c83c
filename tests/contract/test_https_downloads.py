"""Downloads of the generic provider: servers and their idea of a range."""

import base64
import gzip
import hashlib

import pytest

from providers.api import Limits
from providers.errors import Corrupted, NotFound, Rejected, Unreachable
from providers.https import Https
from providers.testing.streams import MemorySink, content
from tests.support.http_server import HttpServer, Received, Say

DATA = content(300_000)
ETAG = {"ETag": '"v1"'}


def get(server: HttpServer, sink: MemorySink, checkpoint: dict[str, str]) -> None:
    storage = Https({"https.url": f"{server.url}/a.zip"}, Limits())
    assert storage.get("a.zip", sink, checkpoint).size_bytes == sink.tell()


def ranged(request: Received) -> Say:
    """A good server of `DATA`."""
    if "range" not in request.headers or request.headers.get("if-range", '"v1"') != '"v1"':
        return Say(200, ETAG, DATA)
    first = int(request.headers["range"].removeprefix("bytes=").removesuffix("-"))
    if first >= len(DATA):
        return Say(416, {"Content-Range": f"bytes */{len(DATA)}"})
    return Say(206, {**ETAG, "Content-Range": f"bytes {first}-{len(DATA) - 1}/{len(DATA)}"}, DATA[first:])


def half() -> tuple[MemorySink, dict[str, str]]:
    """A sink and a checkpoint as a download leaves them that was cut in the middle."""
    sink, checkpoint = MemorySink(), dict[str, str]()
    with HttpServer(lambda _: Say(200, ETAG, DATA, cut_after=150_000)) as server, pytest.raises(Unreachable):
        get(server, sink, checkpoint)
    return sink, checkpoint


def test_a_cut_download_continues_with_the_bytes_that_are_missing() -> None:
    sink, checkpoint = half()
    there = sink.tell()
    assert 0 < there <= 150_000
    with HttpServer(ranged) as server:
        get(server, sink, checkpoint)
    assert server.requests[0].headers["range"] == f"bytes={there}-"
    assert server.requests[0].headers["if-range"] == '"v1"'
    assert (bytes(sink.data), sink.restarts, checkpoint) == (DATA, 0, {})


@pytest.mark.parametrize("status", [200, 216])
def test_a_server_that_ignores_ranges_is_read_from_the_start(status: int) -> None:
    sink, checkpoint = half()
    with HttpServer(lambda _: Say(status, ETAG, DATA)) as server:
        get(server, sink, checkpoint)
    assert (bytes(sink.data), sink.restarts, checkpoint) == (DATA, 1, {})


def test_a_range_that_is_not_there_means_complete_when_the_length_is_that_of_the_object() -> None:
    sink, checkpoint = MemorySink(DATA), {"https.validator": '"v1"'}
    with HttpServer(ranged) as server:
        get(server, sink, checkpoint)
    assert len(server.requests) == 1
    assert (bytes(sink.data), checkpoint) == (DATA, {})


@pytest.mark.parametrize("fields", [{}, {"Content-Range": "bytes */7"}], ids=["silent", "other length"])
def test_a_range_that_is_not_there_is_followed_by_a_download_from_the_start(fields: dict[str, str]) -> None:
    sink, checkpoint = half()
    with HttpServer(lambda r: Say(416, fields) if "range" in r.headers else Say(200, ETAG, DATA)) as server:
        get(server, sink, checkpoint)
    assert bytes(sink.data) == DATA


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"Content-Range": "bytes 0-299999/300000"},
        {"Content-Range": "bytes 150001-299999/300000"},
        {"Content-Range": "nonsense"},
    ],
    ids=str,
)
def test_another_part_than_the_asked_one_is_corrupted_and_the_next_try_begins_again(
    fields: dict[str, str],
) -> None:
    sink, checkpoint = half()
    before = bytes(sink.data)
    with HttpServer(lambda _: Say(206, {**ETAG, **fields}, DATA)) as server:
        with pytest.raises(Corrupted):
            get(server, sink, checkpoint)
        assert (bytes(sink.data), checkpoint) == (before, {})
        server.answer = ranged
        get(server, sink, checkpoint)
    assert bytes(sink.data) == DATA


def test_a_part_of_a_newer_version_is_refused() -> None:
    """Some servers honour Range and overlook If-Range."""
    sink, checkpoint = half()

    def newer(request: Received) -> Say:
        say = ranged(Received("GET", "/", {"range": request.headers["range"]}))
        say.headers["ETag"] = '"v2"'
        return say

    with HttpServer(newer) as server, pytest.raises(Corrupted):
        get(server, sink, checkpoint)
    assert checkpoint == {}


def test_a_part_that_is_shorter_than_the_rest_is_continued_next_time() -> None:
    sink, checkpoint = half()
    there = sink.tell()
    fields = {**ETAG, "Content-Range": f"bytes {there}-{there + 99}/{len(DATA)}"}
    with HttpServer(lambda _: Say(206, fields, DATA[there : there + 100])) as server:
        with pytest.raises(Unreachable):
            get(server, sink, checkpoint)
        assert sink.tell() == there + 100
        server.answer = ranged
        get(server, sink, checkpoint)
    assert (bytes(sink.data), sink.restarts) == (DATA, 0)


def test_without_a_strong_validator_a_cut_download_begins_again() -> None:
    sink, checkpoint = MemorySink(), dict[str, str]()
    with HttpServer(lambda _: Say(200, {"ETag": 'W/"v1"'}, DATA, cut_after=1000)) as server:
        with pytest.raises(Unreachable):
            get(server, sink, checkpoint)
        assert checkpoint == {}
        server.answer = ranged
        get(server, sink, checkpoint)
    assert "range" not in server.requests[-1].headers
    assert bytes(sink.data) == DATA


def test_a_chunked_answer_is_read_and_a_cut_one_noticed() -> None:
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(DATA), DATA)
    with HttpServer(lambda _: Say(200, {"Transfer-Encoding": "chunked"}, chunked)) as server:
        sink = MemorySink()
        get(server, sink, {})
        assert bytes(sink.data) == DATA
        server.answer = lambda _: Say(200, {"Transfer-Encoding": "chunked"}, chunked[:1000])
        with pytest.raises(Unreachable):
            get(server, MemorySink(), {})


def test_a_server_that_hangs_in_mid_download_is_given_up() -> None:
    storage_limits = Limits(read_timeout_s=0.3)
    sink = MemorySink()
    with HttpServer(
        lambda _: Say(200, {"Content-Length": "9", "ETag": '"v1"'}, b"half", hang=True)
    ) as server:
        storage = Https({"https.url": server.url}, storage_limits)
        with pytest.raises(Unreachable, match="no answer"):
            storage.get("a.zip", sink, {})


def test_encoded_content_is_refused_and_not_decoded() -> None:
    with (
        HttpServer(lambda _: Say(200, {"Content-Encoding": "gzip"}, gzip.compress(DATA))) as server,
        pytest.raises(Rejected, match="Content-Encoding"),
    ):
        get(server, MemorySink(), {})
    assert server.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("name", ["Content-MD5", "Digest", "Repr-Digest"])
def test_a_hash_that_the_server_names_is_checked(name: str) -> None:
    def fields(data: bytes) -> dict[str, str]:
        md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
        sha256 = base64.b64encode(hashlib.sha256(data).digest()).decode()
        values = {"Content-MD5": md5, "Digest": f"sha-256={sha256}", "Repr-Digest": f"sha-256=:{sha256}:"}
        return {name: values[name], **ETAG}

    with HttpServer(lambda _: Say(200, fields(DATA), DATA)) as server:
        get(server, MemorySink(), {})
        server.answer = lambda _: Say(200, fields(b"other"), DATA)
        checkpoint: dict[str, str] = {}
        with pytest.raises(Corrupted):
            get(server, MemorySink(), checkpoint)
        assert checkpoint == {}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_download_follows_redirects_and_keeps_its_range(status: int) -> None:
    sink, checkpoint = half()
    with HttpServer(lambda r: ranged(r) if r.target == "/b" else Say(status, {"Location": "b"})) as server:
        get(server, sink, checkpoint)
    assert (bytes(sink.data), sink.restarts) == (DATA, 0)


def test_not_found_behind_a_redirect_is_not_found() -> None:
    sink = MemorySink()
    with (
        HttpServer(lambda r: Say(404) if r.target == "/b" else Say(302, {"Location": "/b"})) as server,
        pytest.raises(NotFound),
    ):
        get(server, sink, {})
    assert sink.writes == 0
