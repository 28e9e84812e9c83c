"""`create` and the other calls of a repository, run over every provider that offers it, on every server."""

import hashlib

import pytest

from providers.api import Capability
from providers.errors import AccessDenied, AlreadyThere, NotFound, StorageError, Unreachable
from providers.testing.streams import content
from providers.testing.transfers import SMALL, opened, through_proxy, wait_until_nothing_is_stored
from providers.testing.under_test import ProviderUnderTest

PACK = content(16 << 20)
ID = hashlib.sha256(SMALL).hexdigest()
DATA, LOCK = f"data/{ID[:2]}/{ID}", f"locks/{ID}"


@pytest.mark.needs("create")
@pytest.mark.parametrize("name", ["config", DATA, LOCK], ids=["config", "pack", "lock"])
def test_an_object_is_created_whole(under_test: ProviderUnderTest, name: str) -> None:
    with opened(under_test, needs=Capability.CREATE) as storage:
        stored = storage.create(name, SMALL)
        assert stored.size_bytes == storage.stat(name).size_bytes == len(SMALL)
    assert under_test.read(name) == SMALL
    assert under_test.names() == [name]
    assert under_test.leftovers() == []


@pytest.mark.needs("create")
def test_a_pack_of_16_mib_is_one_object(under_test: ProviderUnderTest) -> None:
    with opened(under_test, needs=Capability.CREATE) as storage:
        storage.create(DATA, bytearray(PACK))
    assert under_test.read(DATA) == PACK
    assert under_test.leftovers() == []


@pytest.mark.needs("create")
@pytest.mark.needs("conditions")
@pytest.mark.parametrize("name", ["config", DATA], ids=["config", "pack"])
def test_an_object_is_never_replaced(under_test: ProviderUnderTest, name: str) -> None:
    """Somebody else may have made it meanwhile, and refers to it."""
    with opened(under_test, needs=Capability.CREATE) as storage:
        storage.create(name, SMALL)
        with pytest.raises(AlreadyThere):
            storage.create(name, bytes(len(SMALL)))
    assert under_test.read(name) == SMALL
    assert under_test.leftovers() == []


@pytest.mark.needs("create")
def test_an_object_is_read_in_parts(under_test: ProviderUnderTest) -> None:
    with opened(under_test, needs=Capability.CREATE) as storage:
        storage.create(DATA, SMALL)
        piece = storage.read_range(DATA, 1000, 500)
        assert (piece.data, piece.size_bytes) == (SMALL[1000:1500], len(SMALL))
        whole = storage.read_range(DATA, 0, len(SMALL) + 1)
        assert whole.data == SMALL


@pytest.mark.needs("create")
def test_what_is_not_there_is_not_found(under_test: ProviderUnderTest) -> None:
    with opened(under_test, needs=Capability.CREATE) as storage:
        with pytest.raises(NotFound):
            storage.stat(DATA)
        with pytest.raises(NotFound):
            storage.read_range("config", 0, 1000)
        assert list(storage.list("locks/")) == []


@pytest.mark.needs("create")
def test_objects_of_one_kind_are_listed_with_their_sizes(under_test: ProviderUnderTest) -> None:
    with opened(under_test, needs=Capability.CREATE) as storage:
        storage.create(LOCK, SMALL[:100])
        storage.create(DATA, SMALL)
        storage.create("config", SMALL[:10])
        assert [(each.name, each.size_bytes) for each in storage.list("locks/")] == [(LOCK, 100)]
        assert [(each.name, each.size_bytes) for each in storage.list("data/")] == [(DATA, len(SMALL))]
        assert sorted(each.name for each in storage.list("")) == ["config", DATA, LOCK]
        assert list(storage.list("snapshots/")) == []


@pytest.mark.needs("create")
def test_a_lock_is_deleted(under_test: ProviderUnderTest) -> None:
    """The only objects that an append-only server lets go."""
    with opened(under_test, needs=Capability.CREATE) as storage:
        storage.create(LOCK, SMALL)
        storage.delete(LOCK)
        storage.delete(LOCK)
    assert under_test.names() == []


@pytest.mark.needs("create")
@pytest.mark.needs("credentials")
def test_wrong_credentials_create_nothing(under_test: ProviderUnderTest) -> None:
    options = under_test.denied_options(DATA)
    if options is None or Capability.CREATE not in under_test.factory.capabilities:
        pytest.skip("this provider has no credentials, or cannot create")
    storage = under_test.factory(options, under_test.limits)
    for name in (DATA, "config"):
        with pytest.raises(AccessDenied):
            storage.create(name, SMALL)
    storage.close()
    assert under_test.names() == []


@pytest.mark.needs("create")
@pytest.mark.needs("network")
def test_nothing_is_created_over_a_line_that_breaks(under_test: ProviderUnderTest) -> None:
    with through_proxy(under_test, needs=Capability.CREATE) as (storage, proxy):
        proxy.reset_after = {"up": 1_000_000}
        with pytest.raises(Unreachable):
            storage.create(DATA, PACK)
        proxy.reset_after = {}
        proxy.refuse = True
        with pytest.raises(Unreachable):
            storage.create(LOCK, SMALL)
    wait_until_nothing_is_stored(under_test)


@pytest.mark.needs("create")
@pytest.mark.needs("network")
@pytest.mark.needs("conditions")
def test_a_second_try_after_a_lost_answer_finds_the_object(under_test: ProviderUnderTest) -> None:
    """The agent then knows that it is stored: nobody else has tried."""
    with through_proxy(under_test, needs=Capability.CREATE) as (storage, proxy):
        proxy.gate = lambda _direction, piece: 0 if b" 200 " in piece or b" 201 " in piece else None
        with pytest.raises(StorageError) as raised:
            storage.create(DATA, SMALL)
        assert raised.value.retryable
        proxy.gate = lambda *_: None
        with pytest.raises(AlreadyThere):
            storage.create(DATA, SMALL)
    assert under_test.read(DATA) == SMALL


@pytest.mark.needs("create")
@pytest.mark.needs("network")
def test_creating_over_a_black_hole_is_given_up_within_the_time_out(under_test: ProviderUnderTest) -> None:
    with through_proxy(under_test, needs=Capability.CREATE, timeout_s=1) as (storage, proxy):
        proxy.black_hole = True
        with pytest.raises(Unreachable):
            storage.create(LOCK, SMALL)
