"""The place in memory keeps the provider's contract, or tests that use it would prove nothing."""

import hashlib

import pytest

from providers.api import Source, Stored
from providers.errors import Corrupted, NotFound, Unreachable
from providers.testing.streams import BytesSource, FailingSource, MemorySink, StreamedSource, content
from tests.support.fakes import Fault, MemoryStorage
from tests.support.steps import NAME


def test_the_fake_stores_what_a_source_has_and_fetches_it() -> None:
    storage, sink = MemoryStorage(), MemorySink()
    source = BytesSource(b"abc", md5=hashlib.md5(b"abc").digest())
    assert storage.put(NAME, source, {"k": "v"}, {}) == Stored(NAME, 3)
    storage.get(NAME, sink, {})
    assert (bytes(sink.data), storage.metadata[NAME], source.closed) == (b"abc", {"k": "v"}, False)
    assert list(storage.list("backup-")) == [Stored(NAME, 3)]


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (BytesSource(b"abc", size=4), Corrupted),
        (BytesSource(b"abc", md5=b"0" * 16), Corrupted),
        (FailingSource(b"abc", 2, KeyError("stop")), KeyError),
        (FailingSource(b"abc", 2, KeyError("stop"), streamed=True), KeyError),
    ],
)
def test_the_fake_stores_all_or_nothing(source: Source, error: type[Exception]) -> None:
    storage = MemoryStorage({NAME: b"old"})
    with pytest.raises(error):
        storage.put(NAME, source, {}, {})
    assert storage.objects == {NAME: b"old"}


def test_the_fake_goes_on_with_a_stream_where_it_was() -> None:
    """As the places that take parts do: a stream cannot be read again."""
    storage = MemoryStorage(faults=[Fault(Unreachable("x"), 1 << 16)])
    source = StreamedSource(content(200_000))
    with pytest.raises(Unreachable):
        storage.put(NAME, source, {}, {})
    storage.put(NAME, source, {}, {})
    assert storage.objects[NAME] == content(200_000)


def test_the_fake_says_that_something_is_missing_before_it_writes() -> None:
    sink = MemorySink()
    with pytest.raises(NotFound):
        MemoryStorage().get(NAME, sink, {})
    assert sink.writes == 0


def test_the_fake_continues_a_download() -> None:
    storage, sink = MemoryStorage({NAME: b"abcdef"}), MemorySink(b"abc")
    storage.get(NAME, sink, {})
    assert bytes(sink.data) == b"abcdef"
