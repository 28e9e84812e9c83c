"""Rule 7 of `providers.api`, and continuing, run over every provider on every server."""

import pytest

from providers.api import Capability
from providers.errors import NotFound
from tests.contract.places import Place
from tests.contract.transfers import LARGE, NAME, SMALL, Stopped, opened
from tests.support.streams import MemorySink, StreamedSource

OURS = {"local", "generic", "aws", "azure"}


def test_get_of_a_missing_object_is_not_found_before_the_first_write(place: Place) -> None:
    sink = MemorySink(b"there before")
    with opened(place) as storage, pytest.raises(NotFound):
        storage.get(NAME, sink, {})
    assert (bytes(sink.data), sink.writes, sink.restarts) == (b"there before", 0, 0)


def test_our_own_places_say_how_long_an_archive_is_and_where(place: Place) -> None:
    """Others need not: then a job has no percentage, and one that failed no place in the history."""
    if place.factory.kind not in OURS:
        pytest.skip("this provider is not one of ours")
    place.write(NAME, SMALL)
    sink = MemorySink()
    with opened(place) as storage:
        stored = storage.get(NAME, sink, {})
        assert sink.expected == len(SMALL)
        assert storage.location(NAME) == stored.place


def test_get_without_a_checkpoint_begins_again(place: Place) -> None:
    place.write(NAME, SMALL)
    sink = MemorySink(b"rest of something else")
    with opened(place) as storage:
        stored = storage.get(NAME, sink, {})
    assert sink.data == SMALL
    assert stored.size_bytes == len(SMALL)


@pytest.mark.needs("stat")
@pytest.mark.parametrize("data", [SMALL, pytest.param(LARGE, marks=pytest.mark.needs("lasting ETags"))])
def test_what_was_put_is_seen_until_somebody_replaces_it(place: Place, data: bytes) -> None:
    """`skipUnchanged` rests on this: the ETag that `put` returned is the one that is seen later."""
    with opened(place) as storage:
        if Capability.STAT not in storage.capabilities:
            pytest.skip("this provider cannot look at what it keeps")
        stored = storage.put(NAME, StreamedSource(data), {}, {})
        seen = storage.stat(NAME)
        assert (seen.name, seen.size_bytes, seen.etag) == (NAME, len(data), stored.etag)
        assert seen.etag
        place.write(NAME, data[::-1])
        assert storage.stat(NAME).etag != stored.etag


@pytest.mark.needs("stat")
def test_what_is_not_there_cannot_be_seen(place: Place) -> None:
    with opened(place) as storage:
        if Capability.STAT not in storage.capabilities:
            pytest.skip("this provider cannot look at what it keeps")
        with pytest.raises(NotFound):
            storage.stat("another.zip")


def interrupted_get(place: Place, at: int) -> tuple[MemorySink, dict[str, str]]:
    """A download that stopped near byte `at`: what is there by then, and its checkpoint."""
    sink, checkpoint = MemorySink(fails_at=at, error=Stopped()), dict[str, str]()
    with opened(place) as storage, pytest.raises(Stopped):
        storage.get(NAME, sink, checkpoint)
    return MemorySink(bytes(sink.data)), checkpoint


def test_get_continues_where_it_stopped(place: Place) -> None:
    place.write(NAME, LARGE)
    sink, checkpoint = interrupted_get(place, 6_000_000)
    assert sink.tell() > 0
    with opened(place) as storage:
        assert storage.get(NAME, sink, checkpoint).size_bytes == len(LARGE)
    assert sink.data == LARGE
    assert sink.expected in (None, len(LARGE))
    assert sink.restarts == 0
    assert checkpoint == {}


def test_get_begins_again_when_the_object_changed(place: Place) -> None:
    place.write(NAME, LARGE)
    sink, checkpoint = interrupted_get(place, 6_000_000)
    place.write(NAME, SMALL)
    with opened(place) as storage:
        storage.get(NAME, sink, checkpoint)
    assert sink.data == SMALL
    assert checkpoint == {}


def test_get_of_what_is_there_already_changes_nothing(place: Place) -> None:
    place.write(NAME, LARGE)
    sink, checkpoint = interrupted_get(place, 6_000_000)
    sink = MemorySink(LARGE)
    with opened(place) as storage:
        assert storage.get(NAME, sink, checkpoint).size_bytes == len(LARGE)
    assert sink.data == LARGE
    assert checkpoint == {}
