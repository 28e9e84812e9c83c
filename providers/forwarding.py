"""Storages that pass their calls on to another storage."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar

from providers.api import Capability, Checkpoint, Limits, Piece, Sink, Source, Storage, Stored


class Forwarding(Storage):
    """Passes the calls about objects on; the storage behind may know the objects by other names."""

    @property
    @abstractmethod
    def behind(self) -> Storage:
        """Return the storage behind."""

    def inner(self, name: str) -> str:
        """Return the name that the storage behind has for `name`."""
        return name

    def outer(self, stored: Stored) -> Stored:
        """Return what the storage behind has stored, under its name here."""
        return stored

    def put(
        self, name: str, source: Source, metadata: Mapping[str, str], checkpoint: Checkpoint, /
    ) -> Stored:
        return self.outer(self.behind.put(self.inner(name), source, metadata, checkpoint))

    def get(self, name: str, sink: Sink, checkpoint: Checkpoint, /) -> Stored:
        return self.outer(self.behind.get(self.inner(name), sink, checkpoint))

    def list(self, prefix: str, /) -> Iterator[Stored]:
        return map(self.outer, self.behind.list(self.inner(prefix)))

    def stat(self, name: str, /) -> Stored:
        return self.outer(self.behind.stat(self.inner(name)))

    def delete(self, name: str, /) -> None:
        self.behind.delete(self.inner(name))

    def read_range(self, name: str, offset: int, size_bytes: int, /) -> Piece:
        return self.behind.read_range(self.inner(name), offset, size_bytes)

    def create(self, name: str, content: bytes | bytearray, /) -> Stored:
        return self.outer(self.behind.create(self.inner(name), content))

    def discard(self, checkpoint: Checkpoint, /) -> None:
        self.behind.discard(checkpoint)


class Deferred(Forwarding):
    """A storage whose SDK is imported by the thread that first needs it.

    An SDK takes a good part of a second to import on a small device. The thread that checks a command also
    answers all others, so it must not wait for that.
    """

    capabilities = frozenset(Capability)
    needs_size: ClassVar[bool] = False

    def __init__(self, given: Mapping[str, str], limits: Limits) -> None:
        """`given` are checked options."""
        self._given, self._limits = given, limits
        self._opened: Storage | None = None

    @abstractmethod
    def open_behind(self) -> Storage:
        """Import the SDK, and open the storage that uses it."""

    @property
    def behind(self) -> Storage:
        if self._opened is None:
            self._opened = self.open_behind()
        return self._opened

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
