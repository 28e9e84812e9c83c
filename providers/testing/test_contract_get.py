"""Rule 7 of `providers.api`, continuing and ranges, run over every provider on every server."""

from contextlib import suppress

import pytest

from providers.api import Capability
from providers.errors import NotFound, StorageError
from providers.testing.streams import MemorySink, StreamedSource
from providers.testing.transfers import LARGE, NAME, SMALL, Stopped, opened
from providers.testing.under_test import ProviderUnderTest


def test_get_of_a_missing_object_is_not_found_before_the_first_write(under_test: ProviderUnderTest) -> None:
    sink = MemorySink(b"there before")
    with opened(under_test) as storage, pytest.raises(NotFound):
        storage.get(NAME, sink, {})
    assert (bytes(sink.data), sink.writes, sink.restarts) == (b"there before", 0, 0)


def test_get_without_a_checkpoint_begins_again(under_test: ProviderUnderTest) -> None:
    under_test.write(NAME, SMALL)
    sink = MemorySink(b"rest of something else")
    with opened(under_test) as storage:
        stored = storage.get(NAME, sink, {})
    assert sink.data == SMALL
    assert stored.size_bytes == len(SMALL)


@pytest.mark.needs("stat")
@pytest.mark.parametrize("data", [SMALL, pytest.param(LARGE, marks=pytest.mark.needs("lasting ETags"))])
def test_what_was_put_is_seen_until_somebody_replaces_it(under_test: ProviderUnderTest, data: bytes) -> None:
    """`skipUnchanged` needs this: `stat` gives the ETag that `put` returned."""
    with opened(under_test, needs=Capability.STAT) as storage:
        stored = storage.put(NAME, StreamedSource(data), {}, {})
        seen = storage.stat(NAME)
        assert (seen.name, seen.size_bytes, seen.etag) == (NAME, len(data), stored.etag)
        assert seen.etag
        under_test.write(NAME, data[::-1])
        assert storage.stat(NAME).etag != stored.etag


@pytest.mark.needs("stat")
def test_what_is_not_there_cannot_be_seen(under_test: ProviderUnderTest) -> None:
    with opened(under_test, needs=Capability.STAT) as storage, pytest.raises(NotFound):
        storage.stat("another.zip")


def interrupted_get(under_test: ProviderUnderTest, at: int) -> tuple[MemorySink, dict[str, str]]:
    """Stop a download near byte `at`; return what is there by then, and its checkpoint."""
    sink, checkpoint = MemorySink(fails_at=at, error=Stopped()), dict[str, str]()
    with opened(under_test) as storage, pytest.raises(Stopped):
        storage.get(NAME, sink, checkpoint)
    return MemorySink(bytes(sink.data)), checkpoint


def test_get_continues_where_it_stopped(under_test: ProviderUnderTest) -> None:
    under_test.write(NAME, LARGE)
    sink, checkpoint = interrupted_get(under_test, 6_000_000)
    assert sink.tell() > 0
    with opened(under_test) as storage:
        assert storage.get(NAME, sink, checkpoint).size_bytes == len(LARGE)
    assert sink.data == LARGE
    assert sink.expected in (None, len(LARGE))
    assert sink.restarts == 0
    assert checkpoint == {}


def test_get_begins_again_when_the_object_changed(under_test: ProviderUnderTest) -> None:
    under_test.write(NAME, LARGE)
    sink, checkpoint = interrupted_get(under_test, 6_000_000)
    under_test.write(NAME, SMALL)
    with opened(under_test) as storage:
        storage.get(NAME, sink, checkpoint)
    assert sink.data == SMALL
    assert checkpoint == {}


def test_get_of_what_is_there_already_changes_nothing(under_test: ProviderUnderTest) -> None:
    under_test.write(NAME, LARGE)
    sink, checkpoint = interrupted_get(under_test, 6_000_000)
    sink = MemorySink(LARGE)
    with opened(under_test) as storage:
        assert storage.get(NAME, sink, checkpoint).size_bytes == len(LARGE)
    assert sink.data == LARGE
    assert checkpoint == {}


@pytest.mark.needs("read_range")
def test_any_part_can_be_read_and_tells_how_long_the_whole_is(under_test: ProviderUnderTest) -> None:
    """A part that begins before the end and passes it is cut there."""
    under_test.write(NAME, LARGE)
    whole = len(LARGE)
    wanted = ((0, 1), (0, 70_000), (4_000_001, 1 << 20), (whole - 1, 1), (whole - 10, 4096))
    with opened(under_test, needs=Capability.READ_RANGE) as storage:
        pieces = [storage.read_range(NAME, offset, size) for offset, size in wanted]
    assert [piece.size_bytes for piece in pieces] == [whole] * 5
    assert pieces[0].data == LARGE[:1]
    assert pieces[1].data == LARGE[:70_000]
    assert pieces[2].data == LARGE[4_000_001 : 4_000_001 + (1 << 20)]
    assert pieces[3].data == LARGE[-1:]
    assert pieces[4].data == LARGE[-10:]
    assert len({piece.etag for piece in pieces}) == 1


@pytest.mark.needs("read_range")
def test_a_part_of_what_is_not_there_is_not_found(under_test: ProviderUnderTest) -> None:
    with opened(under_test, needs=Capability.READ_RANGE) as storage, pytest.raises(NotFound):
        storage.read_range(NAME, 0, 1)


@pytest.mark.needs("read_range")
def test_behind_the_end_there_is_nothing(under_test: ProviderUnderTest) -> None:
    under_test.write(NAME, LARGE[:100])
    with opened(under_test, needs=Capability.READ_RANGE) as storage, suppress(StorageError):
        assert storage.read_range(NAME, 100, 10).data == b""
