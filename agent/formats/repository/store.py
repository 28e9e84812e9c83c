"""The objects of a repository in a guarded storage."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from agent.base.clock_times import DailyWindow
from agent.base.errors import RepositoryBroken, RepositoryBusy
from agent.formats.repository.objects import Kind, Listed
from agent.transfer.guarded_storage import GuardedStorage
from agent.transfer.streams import RateLimit
from providers.errors import NotFound


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
