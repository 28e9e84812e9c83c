"""Servers that answer without an end: the memory and the time that they can take are bounded."""

import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import pytest

from agent.base.errors import Cancelled
from agent.base.redaction import secret_values
from agent.transfer.cancel import CancelToken
from agent.transfer.guarded_storage import GuardedStorage
from agent.transfer.retry import RetryLimits
from providers.api import Limits, Storage
from providers.errors import StorageError, Unreachable
from providers.testing.streams import BytesSource, MemorySink, content
from tests.support.hostile_server import SECRET, endless_lists, storage_at
from tests.support.http_server import HttpServer, Received, Say
from tests.support.waiting import wait_until

MOST_BYTES = 8 << 20
IN_FLIGHT_BYTES = 16 << 20
"""Bytes that the kernel may hold between server and client."""
LARGE = content(9 << 20)  # in parts

CALLS: dict[str, Callable[[Storage], object]] = {
    "list": lambda storage: list(storage.list("")),
    "stat": lambda storage: storage.stat("a.zip"),
    "get": lambda storage: storage.get("a.zip", MemorySink(), {}),
    "read a part": lambda storage: storage.read_range("a.zip", 0, 10),
    "delete": lambda storage: storage.delete("a.zip"),
    "put": lambda storage: storage.put("a.zip", BytesSource(b"small"), {}, {}),
    "put in parts": lambda storage: storage.put("a.zip", BytesSource(LARGE), {}, {}),
}
GENERIC = {"get", "read a part", "put"}
CASES = [
    *((kind, call) for kind in ("aws", "azure") for call in CALLS),
    *(("generic", call) for call in CALLS if call in GENERIC),
]


@contextmanager
def measured() -> Iterator[Callable[[], int]]:
    """Gives what says how much memory was used at most."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def fails(kind: str, call: str, server: HttpServer, limits: Limits) -> None:
    with closing(storage_at(kind, server.url, limits)) as storage, pytest.raises(StorageError):
        CALLS[call](storage)


@pytest.mark.slow
@pytest.mark.parametrize("status", [403, 503])
@pytest.mark.parametrize(("kind", "call"), CASES)
def test_an_error_without_an_end_is_cut_off(kind: str, call: str, status: int) -> None:
    answer = Say(status, {"Content-Type": "application/xml"}, b"<Error>", endless=b"<a>x</a>" * 4096)
    with HttpServer(lambda _: answer) as server, measured() as peak_bytes:
        fails(kind, call, server, Limits())
        assert peak_bytes() < len(LARGE) + 3 * MOST_BYTES
    assert server.endless_bytes < MOST_BYTES + IN_FLIGHT_BYTES


@pytest.mark.parametrize("kind", ["aws", "azure"])
@pytest.mark.parametrize("call", ["list", "delete", "put"])
def test_an_answer_without_an_end_is_cut_off(kind: str, call: str) -> None:
    """Also one that says all is well."""
    head = b"<ListBucketResult><Name>bucket</Name>" if kind == "aws" else b"<EnumerationResults><Blobs>"
    answer = Say(200, {"Content-Type": "application/xml", "ETag": '"e"'}, head, endless=b" " * 65536)
    with HttpServer(lambda _: answer) as server, measured() as peak_bytes:
        fails(kind, call, server, Limits())
        assert peak_bytes() < 3 * MOST_BYTES
    assert server.endless_bytes < MOST_BYTES + IN_FLIGHT_BYTES


AMPLIFIED = {
    "aws": (b"<ListBucketResult>", b"</ListBucketResult>"),
    "azure": (b"<EnumerationResults><Blobs>", b"</Blobs></EnumerationResults>"),
}


@pytest.mark.parametrize("marks", [b"<a/>", b"<Contents><Key>k</Key><Size>1</Size></Contents>", b"<Blob/>"])
@pytest.mark.parametrize("kind", AMPLIFIED)
def test_an_answer_of_a_million_marks_is_not_parsed(kind: str, marks: bytes) -> None:
    """8 MiB of them would become 400 MiB of objects."""
    head, tail = AMPLIFIED[kind]
    page = head + marks * ((MOST_BYTES - 100) // len(marks)) + tail
    answer = Say(200, {"Content-Type": "application/xml"}, page)
    with HttpServer(lambda _: answer) as server, measured() as peak_bytes:
        fails(kind, "list", server, Limits())
        assert peak_bytes() < 4 * MOST_BYTES


@pytest.mark.parametrize("kind", ["aws", "azure"])
def test_an_answer_that_is_compressed_is_not_unpacked(kind: str) -> None:
    """A thousandth of its size is enough for a bomb, and nobody asked for it."""
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/xml"}
    with HttpServer(lambda _: Say(200, headers, b"\x1f\x8b" + bytes(100))) as server:
        fails(kind, "list", server, Limits())
    assert "gzip" not in server.requests[0].headers.get("accept-encoding", "")


@pytest.mark.parametrize("kind", ["aws", "azure"])
def test_an_answer_that_is_slow_for_ever_is_given_up(kind: str) -> None:
    """Each piece comes in time, and is large enough for a line that works."""
    answer = Say(200, {"Content-Type": "application/xml"}, b"<x>", endless=b" " * 5000, every_s=0.05)
    with (
        HttpServer(lambda _: answer) as server,
        closing(storage_at(kind, server.url, Limits(read_timeout_s=0.3))) as storage,
        pytest.raises(Unreachable),
    ):
        list(storage.list(""))


@pytest.mark.parametrize("full", [False, True], ids=["of empty pages", "of full pages"])
@pytest.mark.parametrize("kind", ["aws", "azure"])
def test_a_list_without_an_end_ends_with_the_cancel(kind: str, full: bool) -> None:
    """At the next page: no thread stays behind to ask for more."""
    token = CancelToken()
    ended: list[BaseException] = []

    def work(storage: Storage) -> None:
        try:
            GuardedStorage(storage, RetryLimits(), token).list("")
        except Cancelled as error:
            ended.append(error)

    with endless_lists(full=full) as server:
        storage = storage_at(kind, server.url, Limits(check=token.check))
        worker = threading.Thread(target=work, args=(storage,))
        worker.start()
        wait_until(lambda: len(server.requests) > 5, what="some pages")
        token.cancel("enough")
        worker.join(20)
        assert not worker.is_alive()
        storage.close()
    assert [str(error) for error in ended] == ["enough"]


@pytest.mark.parametrize("full", [False, True], ids=["of empty pages", "of full pages"])
@pytest.mark.parametrize("kind", ["aws", "azure"])
def test_a_list_without_an_end_ends_with_the_total_time(kind: str, full: bool) -> None:
    token = CancelToken()
    with endless_lists(full=full) as server:
        storage = storage_at(kind, server.url, Limits(check=token.check))
        limits = RetryLimits(attempts=99, total_s=0.5, longest_pause_s=0.01)
        with closing(storage), pytest.raises(Unreachable, match=r"transfer\.totalTime"):
            GuardedStorage(storage, limits, token).list("")


def test_unfinished_uploads_without_an_end_do_not_hold_up_a_clean_up() -> None:
    """S3: a clean-up runs after a cancel, so it ends by itself."""
    begun = {
        "s3.begun": "1700000000", "s3.bucket": "bucket", "s3.key": "a.zip", "s3.identity": "x",
    }  # fmt: skip
    with endless_lists(full=False) as server:
        checkpoint = {**begun, "s3.endpoint": server.url}
        with closing(storage_at("aws", server.url, Limits())) as storage:
            storage.discard(checkpoint)
        assert len(server.requests) < 20
    assert checkpoint == {}


def test_parts_without_an_end_do_not_hold_up_an_upload() -> None:
    """S3: an upload that goes on asks which parts are there."""
    with endless_lists(full=False) as server:
        checkpoint = {
            "s3.endpoint": server.url, "s3.bucket": "bucket", "s3.key": "a.zip", "s3.upload_id": "u",
            "s3.identity": f"{len(LARGE)} {8 << 20} ", "s3.etags": "md5",
        }  # fmt: skip
        with closing(storage_at("aws", server.url, Limits())) as storage, pytest.raises(StorageError):
            storage.put("a.zip", BytesSource(LARGE), {}, checkpoint)
        assert len(server.requests) < 200


@pytest.mark.parametrize(
    ("kind", "page"),
    [
        ("aws", b"<ListBucketResult><Name>b</Name><Contents><Key>k</Key></Contents></ListBucketResult>"),
        ("aws", b"<ListBucketResult><Name>b</Name><Contents><Size>1</Size></Contents></ListBucketResult>"),
        ("azure", b"<EnumerationResults><Blobs><Blob><Name>b</Name></Blob></Blobs></EnumerationResults>"),
        ("azure", b"<EnumerationResults><Blobs><Blob/></Blobs></EnumerationResults>"),
    ],
)
def test_a_list_that_leaves_out_what_it_must_say_is_an_error_of_the_tree(kind: str, page: bytes) -> None:
    """It is no mistake of the provider, and ends no job as one."""
    with HttpServer(lambda _: Say(200, {"Content-Type": "application/xml"}, page)) as server:
        fails(kind, "list", server, Limits())


def echoing(request: Received) -> Say:
    """Everything that the request says of its sender comes back, where it may be kept."""
    echo = f'"{request.target}{request.headers.get("x-key", "")}"'
    if request.method != "GET":
        return Say(201, {"ETag": echo})
    if "range" in request.headers:
        return Say(503)
    return Say(200, {"ETag": echo, "Content-Length": "100"}, b"beginning", cut_after=9)


@pytest.mark.parametrize("kind", ["aws", "azure", "generic"])
def test_a_secret_that_the_far_side_repeats_is_not_kept(kind: str) -> None:
    """Neither in the checkpoint of a download nor with what was stored: both go into the journal."""
    options = {
        "azure.shared.access.signature": f"sv=2024-11-04&sig={SECRET}",
        "https.url": f"http://h/?key={SECRET}",
        "https.header.X-Key": SECRET,
    }
    checkpoint: dict[str, str] = {}
    with HttpServer(echoing) as server, closing(storage_at(kind, server.url, Limits())) as storage:
        guarded = GuardedStorage(storage, RetryLimits(attempts=1), CancelToken(), secret_values(options))
        stored = guarded.put("a.zip", BytesSource(b"small"), {}, {})
        for _ in range(50):  # the cut may overtake the head of the answer, and then nothing is noted
            with pytest.raises(StorageError):
                guarded.get("a.zip", MemorySink(), checkpoint)
            if checkpoint:
                break
    assert SECRET not in repr((stored, checkpoint))
    assert checkpoint
    assert SECRET in repr([(request.target, request.headers) for request in server.requests]) or kind == "aws"


@pytest.mark.parametrize("kind", ["aws", "azure", "generic"])
@pytest.mark.parametrize(
    "odd",
    [{"Content-Length": "many"}, {"Content-MD5": "%%%"}, {"ETag": "\xff"}, {"Last-Modified": "yesterday"}],
    ids=lambda odd: next(iter(odd)),
)
def test_an_odd_field_of_a_header_is_no_mistake_of_the_provider(kind: str, odd: dict[str, str]) -> None:
    """The archive comes all the same, or an error of the tree."""
    headers = {"ETag": '"e"', "Content-Length": "7", "Connection": "close", **odd}
    with (
        HttpServer(lambda _: Say(200, headers, b"archive")) as server,
        closing(storage_at(kind, server.url, Limits())) as storage,
        suppress(StorageError),
    ):
        storage.get("a.zip", MemorySink(), {})
