"""The way of blobs into the repository: compressed, encrypted, collected in packs, stored."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from agent.formats.ordered import OrderedPool
from agent.formats.repository.compression import Compressor, compressed_pieces, zstd
from agent.formats.repository.crypto import Buffer, Cryptor, Keys
from agent.formats.repository.objects import Kind, Objects
from agent.formats.repository.packs import Pack
from agent.formats.repository.pending import PendingPacks

PACK_BYTES = 5 << 20
"""The usual size of a pack."""
_SMALLEST_PACK_BYTES = 1 << 20
_PUT_S = 60
"""A pack that took longer makes the next ones smaller: the lock is refreshed between two of them."""
_BATCH_BYTES = 1 << 18
_BATCH_BLOBS = 64
_BLOB_BYTES = 512
"""The memory of a blob beside its content, roughly."""
_BUDGET_BYTES = 3 << 20
_PIECE_BYTES = 1 << 18


Plain = tuple[bool, bytes, bytes]
"""True for a tree, the id of a content, the content."""


class Packed(NamedTuple):
    """A blob as it is stored."""

    is_tree: bool
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
    contents: list[Plain] = field(default_factory=list)
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Storing:
    """A full pack on its way to the store."""

    pack: Pack
    outcome: Future[tuple[str, float]]
    """Its name, and the seconds that storing it took."""


class BlobWriter:
    """Stores blobs. The caller's thread fills packs, one other stores them, a few compress and encrypt.

    Small contents travel in batches: for each alone a way to another thread would take longer than its work.
    While a pack is stored, nobody else uses the store: it is for one thread at a time.
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
        """`between` refreshes the lock, and may raise: called before a pack is stored, and by `refresh`."""
        self.added = Added()
        self._objects, self._pending, self._between = objects, pending, between
        self._tools = _Tools(keys)
        self._pool = OrderedPool(threads, _BUDGET_BYTES)
        self._store = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._storing: _Storing | None = None
        self._batch = _Batch()
        self._data, self._trees = Pack(trees=False), Pack(trees=True)
        self._pack_bytes = PACK_BYTES

    def add_data(self, blob_id: bytes, content: Buffer) -> None:
        """Store a chunk that the repository has not, some time before `finish` returns."""
        self.added.data_blobs += 1
        self._add((False, blob_id, bytes(content)))

    def add_tree(self, tree_id: bytes, pieces: Iterable[bytes], size_bytes: int) -> None:
        """Store a tree that the repository has not, as `add_data`; its JSON has `size_bytes`."""
        self.added.tree_blobs += 1
        if size_bytes <= _PIECE_BYTES:
            self._add((True, tree_id, b"".join(pieces)))
            return
        self.added.plain_bytes += size_bytes
        compressed = compressed_pieces(pieces, size_bytes)
        self._trees.add_pieces(tree_id, compressed, size_bytes if zstd() else 0, self._tools.cryptor)
        self._store_full()

    def finish(self) -> None:
        """Store what is left. Afterwards nothing can be added."""
        self._submit()
        self._run(self._pool.drain())
        for pack in (self._data, self._trees):
            if pack.blobs:
                self._begin_to_store(pack)
        self._settle()
        # The indexes that are made now need the memory.
        self._data, self._trees = Pack(trees=False), Pack(trees=True)

    def refresh(self) -> None:
        """Keep the lock fresh. Raises what storing a pack has raised meanwhile."""
        if self._storing is None or self._storing.outcome.done():
            self._settle()
            self._between()

    def close(self) -> None:
        """End the threads, once a pack that is being stored is there; what else is not stored is dropped."""
        self._pool.close()
        self._store.shutdown()
        if self._storing and not self._storing.outcome.exception():
            self._settle()

    def _add(self, plain: Plain) -> None:
        batch, size_bytes = self._batch, len(plain[2])
        batch.contents.append(plain)
        batch.size_bytes += size_bytes + _BLOB_BYTES
        self.added.plain_bytes += size_bytes
        if batch.size_bytes >= _BATCH_BYTES or len(batch.contents) >= _BATCH_BLOBS:
            self._submit()
            self._run(self._pool.ready())

    def _submit(self) -> None:
        batch, self._batch = self._batch, _Batch()
        if batch.contents:
            many = len(batch.contents) > 8
            work = partial(self._pack_all, batch.contents)
            self._pool.submit(work, self._collect, batch.size_bytes, in_turn=many)

    def _run(self, emitted: Iterator[bytes]) -> None:
        for _ in emitted:
            pass

    def _pack_all(self, contents: Sequence[Plain]) -> list[Packed]:
        compressor, cryptor = self._tools.compressor, self._tools.cryptor
        found = []
        for is_tree, blob_id, content in contents:
            compressed = compressor.compressed(content)
            if compressed is None:
                found.append(Packed(is_tree, blob_id, cryptor.encrypt(content), 0))
            else:
                found.append(Packed(is_tree, blob_id, cryptor.encrypt(compressed), len(content)))
        return found

    def _collect(self, packed: Sequence[Packed]) -> Iterator[bytes]:
        for is_tree, blob_id, encrypted, plain_bytes in packed:
            (self._trees if is_tree else self._data).add(blob_id, encrypted, plain_bytes)
        self._store_full()
        return iter(())

    def _store_full(self) -> None:
        if self._is_full(self._data):
            self._data = self._begin_to_store(self._data)
        if self._is_full(self._trees):
            self._trees = self._begin_to_store(self._trees)

    def _is_full(self, pack: Pack) -> bool:
        return len(pack.content) >= self._pack_bytes or pack.is_full

    def _begin_to_store(self, pack: Pack) -> Pack:
        """Let the other thread store a pack; return the next one."""
        self._settle()
        self._between()
        self._storing = _Storing(pack, self._store.submit(self._put, pack))
        return Pack(trees=pack is self._trees)

    def _put(self, pack: Pack) -> tuple[str, float]:
        """Store a pack; return its name, and the seconds that this took."""
        name, begun_s = pack.finish(self._tools.cryptor), time.monotonic()
        self._objects.put(Kind.PACK, name, pack.content)
        return name, time.monotonic() - begun_s

    def _settle(self) -> None:
        """Note the pack that was begun, once it is stored. Raises what storing it raised."""
        if storing := self._storing:
            self._storing = None
            name, taken_s = storing.outcome.result()
            self._pending.add(name, storing.pack.header)
            self._size_next(taken_s)
            self.added.bytes += len(storing.pack.content)

    def _size_next(self, taken_s: float) -> None:
        if taken_s > _PUT_S:
            self._pack_bytes = max(self._pack_bytes // 2, _SMALLEST_PACK_BYTES)
        elif taken_s < _PUT_S / 4:
            self._pack_bytes = min(self._pack_bytes * 2, PACK_BYTES)


def pieces_of(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the JSON of a tree in pieces of some size. `parts` are those of its nodes, from `node_parts`."""
    piece, size_bytes, comma = [b'{"nodes":['], 0, b""
    for part in parts:
        if part.startswith(b"{"):
            piece.append(comma)
            comma = b","
        piece.append(part)
        size_bytes += len(part)
        if size_bytes >= _PIECE_BYTES:
            yield b"".join(piece)
            piece, size_bytes = [], 0
    piece.append(b"]}\n")
    yield b"".join(piece)


def id_of(pieces: Iterable[bytes]) -> tuple[bytes, int]:
    """Return the id of a content, and its size."""
    digest, size_bytes = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size_bytes += len(piece)
    return digest.digest(), size_bytes
