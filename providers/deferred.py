"""A storage whose SDK is imported by the thread that first needs it.

An SDK takes a good part of a second to import on a small device. The thread that checks a command also
answers all others, so it must not wait for that.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

from providers.api import Capability, Checkpoint, Piece, Sink, Source, Storage, Stored


class Deferred(Storage):
    """Opens the storage with `open_storage` on first use, and passes every call on."""

    capabilities = frozenset(Capability)
    needs_size: ClassVar[bool] = False

    def __init__(self, open_storage: Callable[[], Storage]) -> None:
        self._open_storage = open_storage
        self._opened: Storage | None = None

    @property
    def _storage(self) -> Storage:
        if self._opened is None:
            self._opened = self._open_storage()
        return self._opened

    def put(
        self, name: str, source: Source, metadata: Mapping[str, str], checkpoint: Checkpoint, /
    ) -> Stored:
        return self._storage.put(name, source, metadata, checkpoint)

    def get(self, name: str, sink: Sink, checkpoint: Checkpoint, /) -> Stored:
        return self._storage.get(name, sink, checkpoint)

    def stat(self, name: str, /) -> Stored:
        return self._storage.stat(name)

    def read_range(self, name: str, offset: int, size_bytes: int, /) -> Piece:
        return self._storage.read_range(name, offset, size_bytes)

    def create(self, name: str, content: bytes | bytearray, /) -> Stored:
        return self._storage.create(name, content)

    def list(self, prefix: str, /) -> Iterator[Stored]:
        return self._storage.list(prefix)

    def delete(self, name: str, /) -> None:
        self._storage.delete(name)

    def discard(self, checkpoint: Checkpoint, /) -> None:
        self._storage.discard(checkpoint)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
