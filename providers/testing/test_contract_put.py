"""Rules 2 to 6 of `providers.api`, run over every provider on every server."""

import hashlib
from dataclasses import replace

import pytest

from providers.errors import Corrupted
from providers.testing.streams import (
    BytesSource,
    FailingSource,
    HookedSource,
    StreamedSource,
    content,
)
from providers.testing.transfers import (
    LARGE,
    NAME,
    SMALL,
    Stopped,
    assert_nothing_stored,
    fetched,
    opened,
)
from providers.testing.under_test import ProviderUnderTest

SIZES = pytest.mark.parametrize("size_bytes", [0, 1, 70_000, 9_000_000])


# -- rules 2 to 4: put ---------------------------------------------------------------------------------


@SIZES
def test_what_was_put_is_there_and_comes_back(under_test: ProviderUnderTest, size_bytes: int) -> None:
    data = content(size_bytes)
    with opened(under_test) as storage:
        stored = storage.put(NAME, BytesSource(data), {"correlation-id": "c-1"}, {})
        assert (stored.name, stored.size_bytes) == (NAME, size_bytes)
        assert under_test.read(NAME) == data
        assert fetched(storage) == data
        assert under_test.leftovers() == []


def test_where_an_archive_will_be_is_where_it_then_is(under_test: ProviderUnderTest) -> None:
    """The history of a failed job shows the location; a provider need not know it."""
    with opened(under_test) as storage:
        before = storage.location(NAME)
        assert before in ("", storage.put(NAME, BytesSource(content(10)), {}, {}).place)


@SIZES
@pytest.mark.needs("streams")
def test_a_stream_without_length_is_stored_whole(under_test: ProviderUnderTest, size_bytes: int) -> None:
    if under_test.factory.needs_size:
        pytest.skip("the agent stages archives for this provider")
    data = content(size_bytes)
    with opened(under_test) as storage:
        assert storage.put(NAME, StreamedSource(data), {}, {}).size_bytes == size_bytes
    assert under_test.read(NAME) == data


def test_put_leaves_the_source_open(under_test: ProviderUnderTest) -> None:
    source = BytesSource(SMALL)
    with opened(under_test) as storage:
        storage.put(NAME, source, {}, {})
    assert not source.closed


def test_put_leaves_nothing_in_the_checkpoint(under_test: ProviderUnderTest) -> None:
    checkpoint: dict[str, str] = {}
    with opened(under_test) as storage:
        storage.put(NAME, BytesSource(LARGE), {}, checkpoint)
    assert checkpoint == {}


def test_put_replaces_what_is_there(under_test: ProviderUnderTest) -> None:
    under_test.write(NAME, b"old" * 50_000)
    with opened(under_test) as storage:
        storage.put(NAME, BytesSource(SMALL), {}, {})
        assert fetched(storage) == SMALL
    assert under_test.names() == [NAME]


def test_until_put_returns_others_see_the_old_object(under_test: ProviderUnderTest) -> None:
    under_test.write(NAME, b"old")
    seen: list[bytes | None] = []
    source = HookedSource(LARGE, lambda _: seen.append(under_test.read(NAME)))
    with opened(under_test) as storage:
        storage.put(NAME, source, {}, {})
    assert set(seen) == {b"old"}
    assert under_test.read(NAME) == LARGE


def test_a_failed_put_leaves_the_old_object(under_test: ProviderUnderTest) -> None:
    under_test.write(NAME, b"old")
    with opened(under_test) as storage, pytest.raises(Stopped):
        storage.put(NAME, FailingSource(LARGE, 5_000_000, Stopped()), {}, {})
    assert under_test.read(NAME) == b"old"
    assert under_test.names() == [NAME]


def test_names_with_slashes_and_of_any_alphabet_are_kept(under_test: ProviderUnderTest) -> None:
    name = "verein/zürich äöü/backup 1.zip"
    with opened(under_test, name) as storage:
        storage.put(name, BytesSource(SMALL), {}, {})
        assert fetched(storage, name) == SMALL
    assert under_test.read(name) == SMALL


# -- rules 5 and 6: what was announced -----------------------------------------------------------------


@pytest.mark.parametrize(("length", "announced"), [(0, 1), (69_999, 70_000), (6_000_000, 9_000_000)])
def test_a_source_that_ends_early_stores_nothing(
    under_test: ProviderUnderTest, length: int, announced: int
) -> None:
    checkpoint: dict[str, str] = {}
    with opened(under_test) as storage:
        with pytest.raises(Corrupted):
            storage.put(NAME, BytesSource(content(length), size=announced), {}, checkpoint)
        assert_nothing_stored(under_test, checkpoint)


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_the_right_md5_is_accepted(under_test: ProviderUnderTest, data: bytes) -> None:
    source = BytesSource(data, md5=hashlib.md5(data).digest())
    with opened(under_test, limits=replace(under_test.limits, checksum=True)) as storage:
        storage.put(NAME, source, {}, {})
    assert under_test.read(NAME) == data


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_a_wrong_md5_stores_nothing(under_test: ProviderUnderTest, data: bytes) -> None:
    checkpoint: dict[str, str] = {}
    with opened(under_test, limits=replace(under_test.limits, checksum=True)) as storage:
        with pytest.raises(Corrupted):
            storage.put(NAME, BytesSource(data, md5=b"0123456789abcdef"), {}, checkpoint)
        assert_nothing_stored(under_test, checkpoint)
