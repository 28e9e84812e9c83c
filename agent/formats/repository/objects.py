"""The objects of one repository: as the writer and the reader ask for them, and in a guarded storage."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import NamedTuple, Protocol

from agent.base.clock_times import DailyWindow
from agent.base.errors import RepositoryBroken, RepositoryBusy
from agent.transfer.guarded_storage import GuardedStorage
from agent.transfer.streams import RateLimit
from providers.errors import NotFound


class Kind(StrEnum):
    """The kind of an object; the value is its directory, and for the config its whole key."""

    CONFIG = "config"
    KEY = "keys"
    LOCK = "locks"
    PACK = "data"
    INDEX = "index"
    SNAPSHOT = "snapshots"


class Listed(NamedTuple):
    name: str
    """64 hexadecimal digits, without a directory."""
    size_bytes: int


class Objects(Protocol):
    """The objects of one repository. Used by one thread.

    The name of an object is 64 hexadecimal digits, and "" for the config. Where an object with this name lies
    (`data/xx/<name>`, on a REST server `data/<name>`) is the store's business. Every method tries again while
    that helps, raises `Cancelled` once the job's token is set, and otherwise raises `StorageError`:
    `AccessDenied` when the device has no right to the call, `NotFound` for a missing object.
    """

    def put(self, kind: Kind, name: str, content: bytes | bytearray, /) -> None:
        """Create the object, durably and in one step. Never replace one.

        Raises `AlreadyThere` when an object has this name. An answer "exists already" (412, 403, 409) to a
        repetition within this call counts as stored: the answer to the first try was lost.
        """

    def get(self, kind: Kind, name: str, most_bytes: int, /) -> bytes:
        """Return the whole object. Raises `RepositoryBroken` when it has more than `most_bytes`."""

    def get_range(self, kind: Kind, name: str, offset: int, size_bytes: int, /) -> bytes:
        """Return `size_bytes` bytes from `offset`; fewer at the end of the object."""

    def exists(self, kind: Kind, name: str, /) -> bool:
        """Return True when there is this object."""

    def delete(self, kind: Kind, name: str, /) -> None:
        """Remove the object, if there is one."""

    def list(self, kind: Kind, /) -> Iterator[Listed]:
        """Yield the objects of a kind, in any order. Memory does not grow with their number.

        Names that are no 64 hexadecimal digits are left out.
        """


def listed(objects: Objects, kind: Kind, most: int, advice: str) -> Iterator[Listed]:
    """Yield the objects of a kind. Raises `RepositoryBroken` for more than `most`, and StorageError.

    For objects that are all fetched. `advice` says what to do about too many.
    """
    for number, found in enumerate(objects.list(kind)):
        if number >= most:
            raise RepositoryBroken(f"the repository has more than {most} objects in {kind}: {advice}")
        yield found


@dataclass(frozen=True, slots=True)
class StoredObjects:
    """The `Objects` below a prefix of a storage, as restic lays out a directory ("Repository Layout")."""

    storage: GuardedStorage
    prefix: str
    """Empty, or the name of a directory without a slash at its end."""
    rate: RateLimit
    closed: DailyWindow | None = None
    """Times at which nothing is stored, because somebody prunes."""

    def put(self, kind: Kind, name: str, content: bytes | bytearray, /) -> None:
        if self.closed and self.closed.covers(datetime.now(UTC)):
            raise RepositoryBusy(
                f"nothing is stored from now on: the prune window is open ({self.closed} UTC)"
            )
        self.storage.create(self._path(kind, name), content)
        self.rate.pace(len(content))

    def get(self, kind: Kind, name: str, most_bytes: int, /) -> bytes:
        path = self._path(kind, name)
        piece = self.storage.read_range(path, 0, most_bytes)
        if piece.size_bytes > most_bytes:
            raise RepositoryBroken(f"{self.storage.location(path)} has more than {most_bytes} bytes")
        self.rate.pace(len(piece.data))
        return piece.data

    def get_range(self, kind: Kind, name: str, offset: int, size_bytes: int, /) -> bytes:
        data = self.storage.read_range(self._path(kind, name), offset, size_bytes).data
        self.rate.pace(len(data))
        return data

    def exists(self, kind: Kind, name: str, /) -> bool:
        try:
            self.storage.stat(self._path(kind, name))
        except NotFound:
            return False
        return True

    def delete(self, kind: Kind, name: str, /) -> None:
        self.storage.delete(self._path(kind, name))

    def list(self, kind: Kind, /) -> Iterator[Listed]:
        directory = self._below(f"{kind}/")
        for stored in self.storage.list(directory, partial(self._is_in_place, kind)):
            yield Listed(stored.name.rpartition("/")[2], stored.size_bytes)

    def _is_in_place(self, kind: Kind, name: str) -> bool:
        """Return True for an object of the repository: people keep copies in directories below."""
        last = name.rpartition("/")[2]
        return _is_id(last) and name == self._path(kind, last)

    def _path(self, kind: Kind, name: str) -> str:
        if kind is Kind.CONFIG:
            return self._below(kind)
        return self._below(f"{kind}/{name[:2]}/{name}" if kind is Kind.PACK else f"{kind}/{name}")

    def _below(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name


def _is_id(name: str) -> bool:
    return len(name) == 64 and not set(name) - set("0123456789abcdef")
