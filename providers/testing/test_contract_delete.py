"""`delete`, run over every provider that offers it, on every server."""

import pytest

from providers.api import Capability
from providers.errors import AccessDenied, NotFound, Unreachable
from providers.testing.streams import MemorySink, StreamedSource
from providers.testing.transfers import LARGE, NAME, SMALL, opened, through_proxy
from providers.testing.under_test import ProviderUnderTest


@pytest.mark.needs("delete")
@pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["empty", "small", "in parts"])
def test_what_was_put_and_deleted_is_gone_for_all(under_test: ProviderUnderTest, data: bytes) -> None:
    under_test.write("another.zip", SMALL)
    with opened(under_test, needs=Capability.DELETE) as storage:
        storage.put(NAME, StreamedSource(data), {}, {})
        storage.delete(NAME)
        assert under_test.names() == ["another.zip"]
        if Capability.LIST in storage.capabilities:
            assert [stored.name for stored in storage.list("")] == ["another.zip"]
        with pytest.raises(NotFound):
            storage.get(NAME, MemorySink(), {})
    assert under_test.leftovers() == []


@pytest.mark.needs("delete")
def test_deleting_what_is_not_there_is_no_error(under_test: ProviderUnderTest) -> None:
    """It may have been removed by an attempt whose answer was lost, or by somebody else."""
    with opened(under_test, needs=Capability.DELETE) as storage:
        storage.delete(NAME)
        under_test.write(NAME, SMALL)
        storage.delete(NAME)
        storage.delete(NAME)
    assert under_test.names() == []


@pytest.mark.needs("delete")
def test_a_name_with_a_directory_is_deleted_alone(under_test: ProviderUnderTest) -> None:
    for name in ("site/a.zip", "site/b.zip", "a.zip"):
        under_test.write(name, SMALL)
    with opened(under_test, needs=Capability.DELETE) as storage:
        storage.delete("site/a.zip")
        storage.delete("nowhere/a.zip")
    assert under_test.names() == ["a.zip", "site/b.zip"]


@pytest.mark.needs("credentials")
@pytest.mark.needs("delete")
def test_wrong_credentials_delete_nothing(under_test: ProviderUnderTest) -> None:
    if (options := under_test.denied_options(NAME)) is None:
        pytest.skip("this provider has no credentials")
    under_test.write(NAME, SMALL)
    if Capability.DELETE not in under_test.factory.capabilities:
        pytest.skip("this provider cannot delete")
    storage = under_test.factory(options, under_test.limits)
    with pytest.raises(AccessDenied):
        storage.delete(NAME)
    storage.close()
    assert under_test.names() == [NAME]


@pytest.mark.needs("network")
@pytest.mark.needs("delete")
def test_what_cannot_be_reached_is_not_deleted(under_test: ProviderUnderTest) -> None:
    under_test.write(NAME, SMALL)
    with through_proxy(under_test, needs=Capability.DELETE) as (storage, proxy):
        proxy.refuse = True
        with pytest.raises(Unreachable):
            storage.delete(NAME)
    assert under_test.names() == [NAME]
