"""`providers.api.Deleting`, run over every provider that offers it, on every server."""

import pytest

from providers.api import Capability, Storage
from providers.errors import AccessDenied, NotFound, Unreachable
from tests.contract.places import Place
from tests.contract.transfers import LARGE, NAME, SMALL, opened, through_proxy
from tests.support.streams import MemorySink, StreamedSource

pytestmark = pytest.mark.needs("delete")


def deleting(storage: Storage) -> Storage:
    if Capability.DELETE not in storage.capabilities:
        pytest.skip("this provider cannot remove what it keeps")
    return storage


@pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["empty", "small", "in parts"])
def test_what_was_put_and_deleted_is_gone_for_all(place: Place, data: bytes) -> None:
    place.write("another.zip", SMALL)
    with opened(place) as storage:
        storage.put(NAME, StreamedSource(data), {}, {})
        deleting(storage).delete(NAME)
        assert place.names() == ["another.zip"]
        if Capability.LIST in storage.capabilities:
            assert [stored.name for stored in storage.list("")] == ["another.zip"]
        with pytest.raises(NotFound):
            storage.get(NAME, MemorySink(), {})
    assert place.leftovers() == []


def test_deleting_what_is_not_there_is_no_error(place: Place) -> None:
    """It may have been removed by an attempt whose answer was lost, or by somebody else."""
    with opened(place) as storage:
        deleting(storage).delete(NAME)
        place.write(NAME, SMALL)
        deleting(storage).delete(NAME)
        deleting(storage).delete(NAME)
    assert place.names() == []


def test_a_name_with_a_directory_is_deleted_alone(place: Place) -> None:
    for name in ("site/a.zip", "site/b.zip", "a.zip"):
        place.write(name, SMALL)
    with opened(place) as storage:
        deleting(storage).delete("site/a.zip")
        deleting(storage).delete("nowhere/a.zip")
    assert place.names() == ["a.zip", "site/b.zip"]


@pytest.mark.needs("credentials")
def test_wrong_credentials_delete_nothing(place: Place) -> None:
    if (options := place.denied_options(NAME)) is None:
        pytest.skip("this place has no credentials")
    place.write(NAME, SMALL)
    storage = place.factory(options, place.limits)
    with pytest.raises(AccessDenied):
        deleting(storage).delete(NAME)
    storage.close()
    assert place.names() == [NAME]


@pytest.mark.needs("network")
def test_what_cannot_be_reached_is_not_deleted(place: Place) -> None:
    place.write(NAME, SMALL)
    with through_proxy(place) as (storage, proxy):
        proxy.refuse = True
        with pytest.raises(Unreachable):
            deleting(storage).delete(NAME)
    assert place.names() == [NAME]
