"""`read_range`, run over every provider on every server."""

from collections.abc import Iterator
from contextlib import suppress

import pytest

from providers.api import Capability, Storage
from providers.errors import NotFound, StorageError
from providers.testing.transfers import LARGE, NAME, opened
from providers.testing.under_test import ProviderUnderTest


@pytest.fixture
def storage(under_test: ProviderUnderTest) -> Iterator[Storage]:
    with opened(under_test) as opened_storage:
        if Capability.READ_RANGE not in opened_storage.capabilities:
            pytest.skip("this provider gives no parts")
        yield opened_storage


@pytest.mark.needs("read_range")
def test_any_part_can_be_read_and_tells_how_long_the_whole_is(
    under_test: ProviderUnderTest, storage: Storage
) -> None:
    """Also past the end: what is there comes."""
    under_test.write(NAME, LARGE)
    whole = len(LARGE)
    pieces = [
        storage.read_range(NAME, offset, size)
        for offset, size in ((0, 1), (0, 70_000), (4_000_001, 1 << 20), (whole - 1, 1), (whole - 10, 4096))
    ]
    assert [piece.size_bytes for piece in pieces] == [whole] * 5
    assert pieces[0].data == LARGE[:1]
    assert pieces[1].data == LARGE[:70_000]
    assert pieces[2].data == LARGE[4_000_001 : 4_000_001 + (1 << 20)]
    assert pieces[3].data == LARGE[-1:]
    assert pieces[4].data == LARGE[-10:]
    assert len({piece.etag for piece in pieces}) == 1


@pytest.mark.needs("read_range")
def test_a_part_of_what_is_not_there_is_not_found(storage: Storage) -> None:
    with pytest.raises(NotFound):
        storage.read_range(NAME, 0, 1)


@pytest.mark.needs("read_range")
def test_behind_the_end_there_is_nothing(under_test: ProviderUnderTest, storage: Storage) -> None:
    under_test.write(NAME, LARGE[:100])
    with suppress(StorageError):
        assert storage.read_range(NAME, 100, 10).data == b""
