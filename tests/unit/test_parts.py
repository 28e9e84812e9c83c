"""Uploads in parts, against a far side in memory that fails whenever a test wants it to."""

import hashlib
import re
import threading
from collections.abc import Callable, Mapping
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.api import Stored
from providers.errors import AccessDenied, Corrupted, Expired, StorageError, Suspended, TooLarge, Unreachable
from providers.part_sizes import PartPlan
from providers.parts import Part, PartUpload, PartUploads, ascii_metadata, start_upload
from providers.testing.streams import BytesSource, FailingSource, StreamedSource, content
from tests.support.waiting import wait_until

PLAN = PartPlan(first_bytes=10, largest_bytes=20, grow_every=3, most_parts=8)
MEMORY_BYTES = 30
"""Two parts at first, one when they have grown."""
MOST_BYTES = 3 * 10 + 5 * 20


class MemoryFar:
    """Keeps parts and objects. The calls (counted from 0) in `failing` raise `error`."""

    def __init__(
        self,
        failing: frozenset[int] = frozenset(),
        *,
        error: type[StorageError] = Unreachable,
        needs_md5: bool = False,
    ) -> None:
        self._error = error
        self.needs_md5 = needs_md5
        self.parts: dict[int, bytes] = {}
        self.stored: bytes | None = None
        self.sent_bytes = 0
        self.md5: bytes | None = None
        self._failing, self._calls = failing, -1

    def _answer(self) -> None:
        self._calls += 1
        if self._calls in self._failing:
            raise self._error("as the test wants it")

    def adopt(self, identity: str, /) -> None:
        self.identity = identity

    def begin(self) -> Mapping[int, Part]:
        self._answer()
        return {number: Part(len(data), hashlib.md5(data).hexdigest()) for number, data in self.parts.items()}

    def put_whole(self, body: bytearray, md5: bytes, /) -> Stored:
        self._answer()
        assert hashlib.md5(body).digest() == md5
        return self._store(bytes(body))

    def put_part(self, number: int, body: bytearray, md5: bytes, /) -> None:
        self.sent_bytes += len(body)
        self._answer()
        assert hashlib.md5(body).digest() == md5
        self.parts[number] = bytes(body)

    def commit(self, parts: int, size_bytes: int, md5: bytes | None, /) -> Stored:
        self._answer()
        self.md5 = md5
        whole = b"".join(self.parts[number] for number in range(1, parts + 1))
        assert len(whole) == size_bytes
        return self._store(whole)

    def _store(self, data: bytes) -> Stored:
        self.stored = data
        return Stored("name", len(data))

    def abandon(self) -> None:
        self.parts.clear()


def put_until_stored(far: MemoryFar, source: BytesSource, plan: PartPlan) -> None:
    uploads = PartUploads()
    for _ in range(30):
        try:
            uploads.put(source, lambda: PartUpload(far, source, plan, MEMORY_BYTES))
        except Unreachable:
            continue
        return
    raise AssertionError("30 attempts")


@given(st.integers(0, MOST_BYTES), st.booleans(), st.frozensets(st.integers(0, 15)))
def test_whatever_fails_on_the_way_the_archive_arrives_whole(
    size_bytes: int, streamed: bool, failing: frozenset[int]
) -> None:
    data, far = content(size_bytes), MemoryFar(failing, needs_md5=True)
    put_until_stored(far, (StreamedSource if streamed else BytesSource)(data), PLAN)
    assert far.stored == data
    assert far.md5 in (None, hashlib.md5(data).digest())
    assert far.sent_bytes <= size_bytes + len(failing) * PLAN.largest_bytes


@given(st.integers(1, 100), st.integers(0, 50))
def test_an_error_of_the_source_leaves_nothing(size_bytes: int, at: int) -> None:
    far, uploads = MemoryFar(), PartUploads()
    source = FailingSource(content(size_bytes + at), at, KeyError("stop"))
    with pytest.raises(KeyError):
        uploads.put(source, lambda: PartUpload(far, source, PLAN, MEMORY_BYTES))
    assert far.parts == {}
    assert far.stored is None


@pytest.mark.parametrize("streamed", [True, False])
def test_the_parts_of_a_file_stay_while_the_agent_is_away(streamed: bool) -> None:
    """It is stopped, and goes on when it is there again; a stream is gone by then."""
    far, uploads = MemoryFar(), PartUploads()
    source = FailingSource(content(50), 40, Suspended("stop"))
    source.rewindable = not streamed
    with pytest.raises(Suspended):
        uploads.put(source, lambda: PartUpload(far, source, PLAN, MEMORY_BYTES))
    assert bool(far.parts) is not streamed


@pytest.mark.parametrize(
    ("error", "streamed", "kept"),
    [
        (Unreachable, False, True),
        (Unreachable, True, True),
        (Expired, False, True),
        (Expired, True, False),
        (AccessDenied, False, False),
        (AccessDenied, True, False),
    ],
)
def test_parts_are_kept_only_where_somebody_can_go_on(
    error: type[StorageError], streamed: bool, kept: bool
) -> None:
    """A file goes on with other credentials too; a stream only in the storage that it began in."""
    far, uploads = MemoryFar(frozenset({3}), error=error), PartUploads()
    source = (StreamedSource if streamed else BytesSource)(content(50))
    with pytest.raises(error):
        uploads.put(source, lambda: PartUpload(far, source, PLAN, MEMORY_BYTES))
    assert bool(far.parts) is kept


def test_a_stream_may_fill_the_last_part_and_no_byte_more() -> None:
    far = MemoryFar()
    put_until_stored(far, StreamedSource(content(MOST_BYTES)), PLAN)
    assert [len(far.parts[number]) for number in sorted(far.parts)] == [10] * 3 + [20] * 5
    with pytest.raises(TooLarge):
        put_until_stored(far, StreamedSource(content(MOST_BYTES + 1)), PLAN)
    assert far.parts == {}


def test_another_stream_takes_away_the_upload_that_waits() -> None:
    far, other, uploads = MemoryFar(frozenset({3})), MemoryFar(), PartUploads()
    first, second = StreamedSource(content(50)), StreamedSource(content(40))
    with pytest.raises(Unreachable):
        uploads.put(first, lambda: PartUpload(far, first, PLAN, MEMORY_BYTES))
    assert far.parts
    uploads.put(second, lambda: PartUpload(other, second, PLAN, MEMORY_BYTES))
    assert far.parts == {}
    assert other.stored == content(40)
    with pytest.raises(Corrupted):  # what the first had read is gone
        uploads.put(first, lambda: PartUpload(far, first, PLAN, MEMORY_BYTES))


def test_a_refusal_comes_before_the_first_byte_is_read() -> None:
    source = BytesSource(content(50))
    with pytest.raises(Unreachable):
        PartUpload(MemoryFar(frozenset({0})), source, PLAN, MEMORY_BYTES).run()
    assert source.tell() == 0


@given(st.integers(0, 10_000))
def test_equal_parts_fit_and_are_not_larger_than_allowed(size_bytes: int) -> None:
    plan = PartPlan(100, 400, grow_every=5, most_parts=20)
    if size_bytes > 400 * 20:
        with pytest.raises(TooLarge):
            plan.equal(size_bytes)
        return
    equal = plan.equal(size_bytes)
    sizes = {equal.size_of(number) for number in range(1, 21)}
    assert len(sizes) == 1
    assert 100 <= min(sizes) <= 400
    assert min(sizes) * 20 >= size_bytes


@given(st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=400), max_size=12))
def test_metadata_fits_into_headers(metadata: dict[str, str]) -> None:
    safe = ascii_metadata(metadata, "_")
    assert sum(len(key) + len(value) for key, value in safe.items()) <= 2048
    for key, value in safe.items():
        assert re.fullmatch(r"[a-z0-9_]+", key)
        assert value.isascii()
        assert value.isprintable()
        assert value.strip() == value != ""


@given(st.text(min_size=1, max_size=50).filter(lambda text: text == text.strip()))
def test_a_value_of_the_metadata_can_be_read_back(value: str) -> None:
    assert unquote(ascii_metadata({"key": value}, "-")["key"]) == value


class ReadingFar(MemoryFar):
    """Takes a part only when `source` was read up to `until`: the next part, while this one is sent."""

    def __init__(
        self, source: BytesSource, until: Callable[[int], int], failing: frozenset[int] = frozenset()
    ) -> None:
        super().__init__(failing)
        self._source, self._until = source, until

    def put_part(self, number: int, body: bytearray, md5: bytes, /) -> None:
        wanted = self._until(number)
        wait_until(lambda: self._source.tell() >= wanted, what=f"byte {wanted} to be read", timeout_s=10)
        super().put_part(number, body, md5)


def test_the_next_part_is_read_while_one_is_sent() -> None:
    source = BytesSource(content(30))
    far = ReadingFar(source, lambda number: min(10 * number + 10, 30))
    PartUploads().put(source, lambda: PartUpload(far, source, PLAN, MEMORY_BYTES))
    assert far.stored == content(30)


def test_no_further_part_is_read_where_two_have_no_room() -> None:
    source, read = BytesSource(content(30)), list[int]()

    class Watching(MemoryFar):
        def put_part(self, number: int, body: bytearray, md5: bytes, /) -> None:
            read.append(source.tell())
            super().put_part(number, body, md5)

    far = Watching()
    PartUploads().put(source, lambda: PartUpload(far, source, PLAN, 19))
    assert read == [10, 20, 30]


def test_what_the_source_raises_while_a_part_fails_comes_out() -> None:
    """A cancel shuts the connections, too: what that makes of the part is not the reason."""
    source = FailingSource(content(30), 15, KeyError("stop"))
    far = ReadingFar(source, lambda _: 15, frozenset({1}))
    with pytest.raises(KeyError):
        PartUploads().put(source, lambda: PartUpload(far, source, PLAN, MEMORY_BYTES))
    assert far.stored is None
    assert "read-ahead" not in [thread.name for thread in threading.enumerate()]


def test_the_upload_of_a_stream_is_never_continued_from_the_checkpoint() -> None:
    """Nothing tells that a later stream gives the same bytes; a file has its length and its hash."""
    far, plan = MemoryFar(), PLAN.for_source(45, most_bytes=10)
    start_upload(far, StreamedSource(content(45)), plan, MEMORY_BYTES, {"sha256": "ab"})
    assert far.identity == ""
    start_upload(far, BytesSource(content(45)), plan, MEMORY_BYTES, {"sha256": "ab"})
    assert far.identity == "45 10 ab"
