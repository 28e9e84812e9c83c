"""Rules 2 to 6 of `providers.api`, run over every provider on every server (see `places.py`)."""

import hashlib
from dataclasses import replace

import pytest

from providers.errors import Corrupted
from tests.contract.places import Place
from tests.contract.transfers import (
    LARGE,
    NAME,
    SMALL,
    Stopped,
    assert_nothing_stored,
    fetched,
    opened,
)
from tests.support.streams import (
    BytesSource,
    FailingSource,
    HookedSource,
    StreamedSource,
    content,
)

SIZES = pytest.mark.parametrize("size_bytes", [0, 1, 70_000, 9_000_000])


# -- rules 2 to 4: put ---------------------------------------------------------------------------------


@SIZES
def test_what_was_put_is_there_and_comes_back(place: Place, size_bytes: int) -> None:
    data = content(size_bytes)
    with opened(place) as storage:
        stored = storage.put(NAME, BytesSource(data), {"correlation-id": "c-1"}, {})
        assert (stored.name, stored.size_bytes) == (NAME, size_bytes)
        assert place.read(NAME) == data
        assert fetched(storage) == data
        assert place.leftovers() == []


def test_where_an_archive_will_be_is_where_it_then_is(place: Place) -> None:
    """The history of a job that failed says so too; a provider need not know."""
    with opened(place) as storage:
        before = storage.location(NAME)
        assert before in ("", storage.put(NAME, BytesSource(content(10)), {}, {}).place)


@SIZES
@pytest.mark.needs("streams")
def test_a_stream_without_length_is_stored_whole(place: Place, size_bytes: int) -> None:
    if place.factory.needs_size:
        pytest.skip("the agent stages archives for this provider")
    data = content(size_bytes)
    with opened(place) as storage:
        assert storage.put(NAME, StreamedSource(data), {}, {}).size_bytes == size_bytes
    assert place.read(NAME) == data


def test_put_leaves_the_source_open(place: Place) -> None:
    source = BytesSource(SMALL)
    with opened(place) as storage:
        storage.put(NAME, source, {}, {})
    assert not source.closed


def test_put_leaves_nothing_in_the_checkpoint(place: Place) -> None:
    checkpoint: dict[str, str] = {}
    with opened(place) as storage:
        storage.put(NAME, BytesSource(LARGE), {}, checkpoint)
    assert checkpoint == {}


def test_put_replaces_what_is_there(place: Place) -> None:
    place.write(NAME, b"old" * 50_000)
    with opened(place) as storage:
        storage.put(NAME, BytesSource(SMALL), {}, {})
        assert fetched(storage) == SMALL
    assert place.names() == [NAME]


def test_until_put_returns_others_see_the_old_object(place: Place) -> None:
    place.write(NAME, b"old")
    seen: list[bytes | None] = []
    source = HookedSource(LARGE, lambda _: seen.append(place.read(NAME)))
    with opened(place) as storage:
        storage.put(NAME, source, {}, {})
    assert set(seen) == {b"old"}
    assert place.read(NAME) == LARGE


def test_a_failed_put_leaves_the_old_object(place: Place) -> None:
    place.write(NAME, b"old")
    with opened(place) as storage, pytest.raises(Stopped):
        storage.put(NAME, FailingSource(LARGE, 5_000_000, Stopped()), {}, {})
    assert place.read(NAME) == b"old"
    assert place.names() == [NAME]


def test_names_with_slashes_and_of_any_alphabet_are_kept(place: Place) -> None:
    name = "verein/zürich äöü/backup 1.zip"
    with opened(place, name) as storage:
        storage.put(name, BytesSource(SMALL), {}, {})
        assert fetched(storage, name) == SMALL
    assert place.read(name) == SMALL


# -- rules 5 and 6: what was announced -----------------------------------------------------------------


@pytest.mark.parametrize(("length", "announced"), [(0, 1), (69_999, 70_000), (6_000_000, 9_000_000)])
def test_a_source_that_ends_early_stores_nothing(place: Place, length: int, announced: int) -> None:
    checkpoint: dict[str, str] = {}
    with opened(place) as storage:
        with pytest.raises(Corrupted):
            storage.put(NAME, BytesSource(content(length), size=announced), {}, checkpoint)
        assert_nothing_stored(place, checkpoint)


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_the_right_md5_is_accepted(place: Place, data: bytes) -> None:
    source = BytesSource(data, md5=hashlib.md5(data).digest())
    with opened(place, limits=replace(place.limits, checksum=True)) as storage:
        storage.put(NAME, source, {}, {})
    assert place.read(NAME) == data


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_a_wrong_md5_stores_nothing(place: Place, data: bytes) -> None:
    checkpoint: dict[str, str] = {}
    with opened(place, limits=replace(place.limits, checksum=True)) as storage:
        with pytest.raises(Corrupted):
            storage.put(NAME, BytesSource(data, md5=b"0123456789abcdef"), {}, checkpoint)
        assert_nothing_stored(place, checkpoint)
