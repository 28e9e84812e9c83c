"""The way of blobs into the repository: compressed, encrypted, collected in packs, stored."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from agent.formats.ordered import OrderedPool
from agent.formats.repository.compression import Compressor
from agent.formats.repository.crypto import Buffer, Cryptor, Keys
from agent.formats.repository.objects import Kind, Objects
from agent.formats.repository.packs import Pack
from agent.formats.repository.pending import PendingPacks

PACK_BYTES = 8 << 20
"""The usual size of a pack."""
_SMALLEST_PACK_BYTES = 1 << 20
_PUT_S = 60
"""A pack that took longer makes the next ones smaller: the lock is refreshed between two of them."""
_BATCH_BYTES = 1 << 18
_BATCH_BLOBS = 64
_BLOB_BYTES = 512
"""The memory of a blob beside its content, roughly."""
_BUDGET_BYTES = 4 << 20
_PIECE_BYTES = 1 << 18


class Packed(NamedTuple):
    """A blob as it is stored."""

    id: bytes
    encrypted: bytes
    plain_bytes: int
    """As in `packs.Blob`."""


@dataclass(slots=True)
class Added:
    """Counts of a job's stored blobs, and the bytes of its packs."""

    bytes: int = 0
    data_blobs: int = 0
    tree_blobs: int = 0
    plain_bytes: int = 0
    """Bytes of the stored blobs before compression."""


class _Tools(threading.local):
    """The ciphers and compressors of a thread."""

    def __init__(self, keys: Keys) -> None:
        self.cryptor, self.compressor = Cryptor(keys), Compressor()


@dataclass(slots=True)
class _Batch:
    contents: list[tuple[bytes, bytes]] = field(default_factory=list)
    size_bytes: int = 0


class BlobWriter:
    """Stores blobs. The caller's thread fills and stores packs, a few others compress and encrypt.

    Small contents travel in batches: for each alone a way to another thread would take longer than its work.
    """

    def __init__(
        self,
        objects: Objects,
        keys: Keys,
        pending: PendingPacks,
        between: Callable[[], None],
        *,
        threads: int,
    ) -> None:
        """`between` is called before each pack is stored: it refreshes the lock, and may raise."""
        self.added = Added()
        self._objects, self._pending, self._between = objects, pending, between
        self._tools = _Tools(keys)
        self._pool = OrderedPool(threads, _BUDGET_BYTES)
        self._batch = _Batch()
        self._data, self._trees = Pack(trees=False), Pack(trees=True)
        self._pack_bytes = PACK_BYTES

    def add_data(self, blob_id: bytes, content: Buffer) -> None:
        """Store a chunk that the repository has not, some time before `finish` returns."""
        self._batch.contents.append((blob_id, bytes(content)))
        self._batch.size_bytes += len(content) + _BLOB_BYTES
        self.added.data_blobs += 1
        self.added.plain_bytes += len(content)
        if self._batch.size_bytes >= _BATCH_BYTES or len(self._batch.contents) >= _BATCH_BLOBS:
            self._submit()
            self._run(self._pool.ready())

    def add_tree(self, tree_id: bytes, pieces: Iterable[bytes], size_bytes: int) -> None:
        """Store a tree that the repository has not; its JSON has `size_bytes`."""
        self.added.tree_blobs += 1
        self.added.plain_bytes += size_bytes
        tools = self._tools
        compressed = tools.compressor.stream(pieces, size_bytes)
        plain_bytes = size_bytes if tools.compressor.available else 0
        self._trees.add_pieces(tree_id, compressed, plain_bytes, tools.cryptor)
        self._store_full(self._trees)

    def finish(self) -> None:
        """Store what is left. Afterwards nothing can be added."""
        self._submit()
        self._run(self._pool.drain())
        for pack in (self._data, self._trees):
            if pack.blobs:
                self._store(pack)

    def close(self) -> None:
        """End the threads; what is not stored is dropped."""
        self._pool.close()

    def _submit(self) -> None:
        batch, self._batch = self._batch, _Batch()
        if batch.contents:
            many = len(batch.contents) > 8
            work = partial(self._pack_all, batch.contents)
            self._pool.submit(work, self._collect, batch.size_bytes, in_turn=many)

    def _run(self, emitted: Iterator[bytes]) -> None:
        for _ in emitted:
            pass

    def _pack_all(self, contents: Sequence[tuple[bytes, bytes]]) -> list[Packed]:
        compressor, cryptor = self._tools.compressor, self._tools.cryptor
        found = []
        for blob_id, content in contents:
            compressed = compressor.compressed(content)
            if compressed is None:
                found.append(Packed(blob_id, cryptor.encrypt(content), 0))
            else:
                found.append(Packed(blob_id, cryptor.encrypt(compressed), len(content)))
        return found

    def _collect(self, packed: Sequence[Packed]) -> Iterator[bytes]:
        for blob in packed:
            self._data.add(blob.id, blob.encrypted, blob.plain_bytes)
            self._store_full(self._data)
        return iter(())

    def _store_full(self, pack: Pack) -> None:
        if len(pack.content) >= self._pack_bytes or pack.is_full:
            self._store(pack)

    def _store(self, pack: Pack) -> None:
        self._between()
        name = pack.finish(self._tools.cryptor)
        begun_s = time.monotonic()
        self._objects.put(Kind.PACK, name, pack.content)
        self._pending.add(name, pack.blobs)
        self._size_next(time.monotonic() - begun_s)
        self.added.bytes += len(pack.content)
        pack.clear()

    def _size_next(self, taken_s: float) -> None:
        if taken_s > _PUT_S:
            self._pack_bytes = max(self._pack_bytes // 2, _SMALLEST_PACK_BYTES)
        elif taken_s < _PUT_S / 4:
            self._pack_bytes = min(self._pack_bytes * 2, PACK_BYTES)


def pieces_of(nodes: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the JSON of a tree with these nodes in pieces of some size."""
    parts, size_bytes, comma = [b'{"nodes":['], 0, b""
    for node in nodes:
        parts.append(comma + node)
        comma = b","
        size_bytes += len(node)
        if size_bytes >= _PIECE_BYTES:
            yield b"".join(parts)
            parts, size_bytes = [], 0
    parts.append(b"]}\n")
    yield b"".join(parts)


def id_of(pieces: Iterable[bytes]) -> tuple[bytes, int]:
    """Return the id of a content, and its size."""
    digest, size_bytes = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size_bytes += len(piece)
    return digest.digest(), size_bytes
