"""Blobs on their way out of a repository: decrypted, unpacked and checked by their ids."""

import hashlib
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import NamedTuple

from agent.base.errors import RepositoryBroken
from agent.formats.ordered import OrderedPool
from agent.formats.repository.blob_index import Place
from agent.formats.repository.compression import decompressed, decompressed_pieces
from agent.formats.repository.crypto import Cryptor, Keys

_THREADS = 2
_AHEAD_BYTES = 2 << 20
_GROUP_BYTES = 1 << 17
"""Chunks that one thread opens together."""
_GROUP_CHUNKS = 64
_SMALL_BYTES = 1 << 14
"""Two threads gain nothing for chunks up to this size: they would mostly wait for Python's lock."""


class Fetched(NamedTuple):
    """A blob as it is stored."""

    place: Place
    encrypted: bytes


class _Group(NamedTuple):
    chunks: list[Fetched]
    content_bytes: int

    @property
    def is_for_threads(self) -> bool:
        return self.content_bytes > _SMALL_BYTES * len(self.chunks)


class _Tools(threading.local):
    """The ciphers of a thread."""

    def __init__(self, keys: Keys) -> None:
        self.cryptor = Cryptor(keys)


class ChunkOpener:
    """Opens chunks. Any number of threads may call the methods at the same time."""

    def __init__(self, keys: Keys) -> None:
        self._tools = _Tools(keys)
        self._ahead = threading.Lock()
        """Held while two threads are busy: four would wait for Python's lock for longer than they gain."""

    @property
    def cryptor(self) -> Cryptor:
        """Return the ciphers of the caller's thread."""
        return self._tools.cryptor

    def opened(self, chunk: Fetched) -> bytes:
        """Return the content of a chunk. Raises `RepositoryBroken` when it is another than its id says."""
        place, encrypted = chunk
        try:
            stored = self._tools.cryptor.decrypt(encrypted)
            content = decompressed(stored, place.plain_bytes) if place.plain_bytes else stored
            if hashlib.sha256(content).digest() != place.key:
                raise _wrong_content()
        except RepositoryBroken as error:
            raise _damaged(place, error) from error
        return content

    def opened_ahead(self, chunks: Iterable[Fetched]) -> Generator[bytes, None, None]:
        """Yield the contents of chunks in their order. The caller and another thread open a few at once.

        At most `_AHEAD_BYTES` are ahead of the caller, or one chunk that is larger. Only one thread at a time
        comes in here; the others wait until it has closed the iterator, with which the other thread ends.
        Raises as `opened`, and what `chunks` raises.
        """
        with self._ahead, closing(OrderedPool(_THREADS, _AHEAD_BYTES)) as pool:
            for group in _groups(chunks):
                if group.is_for_threads:
                    pool.submit(partial(self._all_opened, group), iter, group.content_bytes, in_turn=True)
                    yield from pool.overlapping()
                else:
                    yield from pool.drain()
                    yield from map(self.opened, group.chunks)
            yield from pool.drain()

    def _all_opened(self, group: _Group) -> list[bytes]:
        return list(map(self.opened, group.chunks))


def _groups(chunks: Iterable[Fetched]) -> Iterator[_Group]:
    group, content_bytes = list[Fetched](), 0
    for chunk in chunks:
        group.append(chunk)
        content_bytes += chunk.place.content_bytes
        if content_bytes >= _GROUP_BYTES or len(group) == _GROUP_CHUNKS:
            yield _Group(group, content_bytes)
            group, content_bytes = [], 0
    if group:
        yield _Group(group, content_bytes)


@contextmanager
def naming_pack(place: Place) -> Iterator[None]:
    """Name the pack in a message about damage: the operator replaces or removes it."""
    try:
        yield
    except RepositoryBroken as error:
        raise _damaged(place, error) from error


def check_content(stored: bytes, place: Place, blob_id: bytes) -> None:
    """Raise `RepositoryBroken` for another content than the id says, without holding all of it."""
    digest = hashlib.sha256()
    for piece in pieces_of(stored, place):
        digest.update(piece)
    if digest.digest() != blob_id:
        raise _wrong_content()


def pieces_of(stored: bytes, place: Place) -> Iterator[bytes]:
    """Yield the content of a decrypted blob. Raises `RepositoryBroken`."""
    return decompressed_pieces(stored, place.plain_bytes) if place.plain_bytes else iter((stored,))


def _damaged(place: Place, error: RepositoryBroken) -> RepositoryBroken:
    return RepositoryBroken(f"the pack {place.pack[:8]} of the repository is damaged: {error}")


def _wrong_content() -> RepositoryBroken:
    return RepositoryBroken("a blob has another content than its name says")
