"""The objects of a repository in a storage: their names there, and limits on the way."""

from collections.abc import Iterator

import pytest

from agent.base.errors import RepositoryBroken
from agent.formats.repository.objects import Kind, Listed, StoredObjects
from agent.transfer.cancel import CancelToken
from agent.transfer.guarded_storage import GuardedStorage
from agent.transfer.retry import RetryLimits
from agent.transfer.streams import RateLimit
from providers.api import Capability, Piece, Stored
from providers.errors import AlreadyThere, NotFound
from tests.support.fakes import MemoryStorage

ID, OTHER = "ab" * 32, "cd" * 32


class ObjectStorage(MemoryStorage):
    """Keeps objects in memory, and never replaces one."""

    capabilities = frozenset(Capability) - {Capability.RESUME_STREAM}

    def create(self, name: str, content: bytes | bytearray, /) -> Stored:
        if name in self.objects:
            raise AlreadyThere(name)
        self.objects[name] = bytes(content)
        return Stored(name, len(content))

    def stat(self, name: str, /) -> Stored:
        return Stored(name, len(self._found(name)))

    def read_range(self, name: str, offset: int, size_bytes: int, /) -> Piece:
        content = self._found(name)
        return Piece(content[offset : offset + size_bytes], len(content))

    def delete(self, name: str, /) -> None:
        self.objects.pop(name, None)

    def list(self, prefix: str, /) -> Iterator[Stored]:
        names = [name for name in self.objects if name.startswith(prefix)]
        yield from (Stored(name, len(self.objects[name])) for name in names)

    def _found(self, name: str) -> bytes:
        if name not in self.objects:
            raise NotFound(name)
        return self.objects[name]


def objects(storage: ObjectStorage, prefix: str = "") -> StoredObjects:
    token = CancelToken()
    guarded = GuardedStorage(storage, RetryLimits(attempts=1), token)
    return StoredObjects(guarded, prefix, RateLimit(0, token))


@pytest.mark.parametrize(("prefix", "top"), [("", ""), ("fleet/edge:device", "fleet/edge:device/")])
def test_objects_lie_where_restic_looks_for_them(prefix: str, top: str) -> None:
    storage = ObjectStorage()
    for kind in Kind:
        objects(storage, prefix).put(kind, "" if kind is Kind.CONFIG else ID, b"content")
    assert sorted(storage.objects) == [
        f"{top}config",
        f"{top}data/ab/{ID}",
        f"{top}index/{ID}",
        f"{top}keys/{ID}",
        f"{top}locks/{ID}",
        f"{top}snapshots/{ID}",
    ]


def test_what_was_put_is_read_listed_and_removed() -> None:
    here = objects(ObjectStorage(), "site")
    here.put(Kind.PACK, ID, b"0123456789")
    here.put(Kind.PACK, OTHER, b"")
    assert here.get(Kind.PACK, ID, 10) == b"0123456789"
    assert here.get_range(Kind.PACK, ID, 8, 5) == b"89"
    assert sorted(here.list(Kind.PACK)) == [Listed(ID, 10), Listed(OTHER, 0)]
    assert list(here.list(Kind.LOCK)) == []
    here.delete(Kind.PACK, ID)
    assert (here.exists(Kind.PACK, ID), here.exists(Kind.PACK, OTHER)) == (False, True)


def test_an_object_that_is_larger_than_it_may_be_is_refused() -> None:
    """A store may give anything as a key file."""
    here = objects(ObjectStorage({f"keys/{ID}": bytes(11)}))
    with pytest.raises(RepositoryBroken, match="more than 10 bytes"):
        here.get(Kind.KEY, ID, 10)


def test_names_that_are_no_hash_are_left_out() -> None:
    storage = ObjectStorage({"locks/README": b"1", f"locks/{ID}x": b"1", f"locks/{ID}": b"1"})
    assert list(objects(storage).list(Kind.LOCK)) == [Listed(ID, 1)]
