"""Downloads that go on, against a far side in memory that breaks off, changes and lies."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.errors import Corrupted, Unreachable
from providers.fetch import Body, Download
from providers.testing.streams import MemorySink, content


class MemoryObject:
    """An object that can be opened; each opening gives at most `gives` bytes and then breaks."""

    def __init__(self, data: bytes, *, gives: int = 1 << 30, ranges: bool = True) -> None:
        self.data, self.gives, self.ranges = data, gives, ranges
        self.lies_about_md5 = False
        self.opened: list[int] = []
        self.closed = 0

    @property
    def etag(self) -> str:
        return hashlib.sha1(self.data, usedforsecurity=False).hexdigest()

    def open(self, offset: int, etag: str) -> Body:
        self.opened.append(offset)
        if offset and etag != self.etag:
            raise Corrupted("another object")
        start = offset if self.ranges else 0
        rest = memoryview(self.data)[start:]
        left = self.gives

        def read(size_bytes: int) -> bytes:
            nonlocal rest, left
            if rest and not left:
                raise Unreachable("as the test wants it")
            chunk = bytes(rest[: min(size_bytes, left, 7)])
            rest, left = rest[len(chunk) :], left - len(chunk)
            return chunk

        md5 = "0" * 32 if self.lies_about_md5 else hashlib.md5(self.data).hexdigest()
        return Body(start, len(self.data), self.etag, md5, read, self._close)

    def _close(self) -> None:
        self.closed += 1


def fetch(there: MemoryObject, sink: MemorySink, checkpoint: dict[str, str]) -> None:
    Download("name", "memory://name", checkpoint, there.open).run(sink)


@given(st.binary(max_size=200), st.integers(1, 50))
def test_a_download_that_breaks_off_goes_on_until_it_is_whole(data: bytes, gives: int) -> None:
    there, sink, checkpoint = MemoryObject(data, gives=gives), MemorySink(), dict[str, str]()
    for _ in range(len(data) + 1):
        try:
            fetch(there, sink, checkpoint)
        except Unreachable:
            continue
        break
    assert sink.data == data
    assert sink.restarts == 0
    assert checkpoint == {}
    assert there.opened == list(range(0, max(len(data), 1), gives))
    assert there.closed == len(there.opened)


@pytest.mark.parametrize("changed", [b"", b"short", content(300)])
def test_when_the_object_changed_it_begins_again(changed: bytes) -> None:
    there, sink, checkpoint = MemoryObject(content(100), gives=60), MemorySink(), dict[str, str]()
    with pytest.raises(Unreachable):
        fetch(there, sink, checkpoint)
    there.data, there.gives = changed, 1000
    fetch(there, sink, checkpoint)
    assert sink.data == changed
    assert sink.restarts == 1


def test_a_far_side_without_ranges_sends_the_whole_again() -> None:
    there = MemoryObject(content(100), gives=60, ranges=False)
    sink, checkpoint = MemorySink(), dict[str, str]()
    with pytest.raises(Unreachable):
        fetch(there, sink, checkpoint)
    there.gives = 1000
    fetch(there, sink, checkpoint)
    assert sink.data == content(100)
    assert sink.restarts == 1


def test_the_beginning_of_something_else_is_thrown_away() -> None:
    sink = MemorySink(b"something else")
    fetch(MemoryObject(content(100)), sink, {"get.place": "memory://other", "get.size": "14", "get.etag": ""})
    assert sink.data == content(100)


def test_another_md5_is_corrupted_and_leaves_an_empty_sink() -> None:
    there, sink, checkpoint = MemoryObject(content(100)), MemorySink(), dict[str, str]()
    there.lies_about_md5 = True
    with pytest.raises(Corrupted):
        fetch(there, sink, checkpoint)
    assert sink.data == b""
    assert checkpoint == {}
