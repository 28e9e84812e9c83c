"""Reads a repository: blobs by ranges of packs, each checked by its id, and trees as a stream."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from agent.base.errors import RepositoryBroken
from agent.formats.repository.blob_index import BlobIndex, Place
from agent.formats.repository.compression import decompressed, decompressed_pieces
from agent.formats.repository.crypto import Cryptor
from agent.formats.repository.document import MOST_BYTES, Snapshot, parsed
from agent.formats.repository.objects import Kind, Objects
from agent.formats.repository.saved_node import SavedNode, saved_node
from agent.formats.repository.state import tree_key
from agent.formats.repository.unpacked import get_unpacked
from providers.errors import NotFound

_BLOCK_BYTES = 1 << 20
_BLOCKS = 4
MOST_BLOB_BYTES = 512 << 20
"""The longest plain content of a tree that is read; one of data is far below."""


class PackReader:
    """Reads parts of packs; neighbours come with one request. Used by one thread."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._blocks: OrderedDict[tuple[str, int], bytes] = OrderedDict()

    def read(self, place: Place) -> bytes:
        """Return the encrypted blob. Raises `RepositoryBroken` when the pack is too short."""
        if place.length > _BLOCK_BYTES:
            found = self._objects.get_range(Kind.PACK, place.pack, place.offset, place.length)
        else:
            found = b"".join(self._parts(place))
        if len(found) != place.length:
            raise RepositoryBroken(f"the pack {place.pack[:8]} of the repository was cut")
        return found

    def _parts(self, place: Place) -> Iterator[bytes]:
        at, end = place.offset, place.offset + place.length
        while at < end:
            number, begin = divmod(at, _BLOCK_BYTES)
            yield self._block(place.pack, number)[begin : begin + end - at]
            at = (number + 1) * _BLOCK_BYTES

    def _block(self, pack: str, number: int) -> bytes:
        block = self._blocks.pop((pack, number), None)
        if block is None:
            block = self._objects.get_range(Kind.PACK, pack, number * _BLOCK_BYTES, _BLOCK_BYTES)
            if len(self._blocks) >= _BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks[pack, number] = block
        return block


class Reader:
    """Reads blobs and trees. Used by one thread."""

    def __init__(self, objects: Objects, cryptor: Cryptor, index: BlobIndex) -> None:
        self._packs, self._cryptor, self._index = PackReader(objects), cryptor, index

    def data(self, blob_id: bytes) -> bytes:
        """Return a chunk. Raises `RepositoryBroken` and StorageError."""
        place = self._place(blob_id)
        stored = self._cryptor.decrypt(self._packs.read(place))
        content = decompressed(stored, place.plain_bytes) if place.plain_bytes else stored
        if hashlib.sha256(content).digest() != blob_id:
            raise RepositoryBroken("a chunk of the repository has another content than its name says")
        return content

    def tree(self, tree_id: bytes) -> Iterator[SavedNode]:
        """Yield the nodes of a tree, which was checked as a whole before.

        Raises `RepositoryBroken` and StorageError.
        """
        place = self._place(tree_key(tree_id))
        stored = self._cryptor.decrypt(self._packs.read(place))

        def pieces() -> Iterator[bytes]:
            if not place.plain_bytes:
                return iter((stored,))
            return decompressed_pieces(stored, place.plain_bytes)

        if place.plain_bytes > MOST_BLOB_BYTES:
            raise RepositoryBroken("a tree of the repository is larger than any that is read")
        digest = hashlib.sha256()
        for piece in pieces():
            digest.update(piece)
        if digest.digest() != tree_id:
            raise RepositoryBroken("a tree of the repository has another content than its name says")
        return _in_order(map(saved_node, _nodes(pieces())))

    def _place(self, key: bytes) -> Place:
        place = self._index.place(key)
        if place is None:
            raise RepositoryBroken("a snapshot needs a blob that no index of the repository names")
        return place


class _File:
    """Pieces as a file, for the JSON parser."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._held = pieces, b""

    def read(self, size_bytes: int) -> bytes:
        if not self._held:
            self._held = next(self._pieces, b"")
        found, self._held = self._held[:size_bytes], self._held[size_bytes:]
        return found


def _in_order(nodes: Iterator[SavedNode]) -> Iterator[SavedNode]:
    """Yield nodes; raise `RepositoryBroken` for names that are not sorted, or there twice."""
    last = b""
    for node in nodes:
        if node.name <= last:
            raise RepositoryBroken("a tree of the repository has names twice, or not in their order")
        last = node.name
        yield node


def _nodes(pieces: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    import ijson

    try:
        yield from ijson.items(_File(pieces), "nodes.item")
    except ijson.JSONError as error:
        raise RepositoryBroken("a tree of the repository is no JSON") from error


def snapshots(objects: Objects, cryptor: Cryptor, check: Callable[[], None]) -> Iterator[Snapshot]:
    """Yield all snapshots, in any order; those that are removed meanwhile are missing."""
    for name, _ in objects.list(Kind.SNAPSHOT):
        check()
        try:
            yield parsed(name, get_unpacked(objects, cryptor, Kind.SNAPSHOT, name, MOST_BYTES))
        except NotFound:
            continue
