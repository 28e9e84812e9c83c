"""Reads a repository: blobs by ranges of packs, each checked by its id, and trees as a stream."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Lock

import structlog

from agent.base.errors import RepositoryBroken
from agent.formats.repository.blob_index import BlobIndex, Place
from agent.formats.repository.chunks import ChunkOpener, Fetched, check_content, naming_pack, pieces_of
from agent.formats.repository.crypto import Cryptor, Keys
from agent.formats.repository.document import MOST_BYTES, Snapshot, parsed
from agent.formats.repository.json_stream import items_of
from agent.formats.repository.objects import Kind, Objects, listed
from agent.formats.repository.pack_reader import GetRange, PackReader, whole_block
from agent.formats.repository.packs import ID_BYTES, ids_of, tree_key
from agent.formats.repository.saved_node import SavedNode, saved_node
from agent.formats.repository.spool import Spool
from agent.formats.repository.unpacked import get_unpacked
from providers.errors import NotFound

log = structlog.get_logger(__name__)

MOST_BLOB_BYTES = 512 << 20
"""The longest plain content of a tree that is read."""
_MOST_SNAPSHOTS = 10_000
_MOST_DATA_BYTES = 16 << 20
"""The longest chunk that is read: restic's have at most 8 MiB."""


class Reader:
    """Reads blobs and trees. Any number of threads may call the methods at the same time."""

    def __init__(
        self, fetch: GetRange, keys: Keys, index: BlobIndex, directory: Path, reserve_bytes: int
    ) -> None:
        """Take a directory for temporary files; so much stays free there."""
        self._data_packs = PackReader(fetch, index.needed, Spool(directory, reserve_bytes))
        self._tree_packs = PackReader(fetch, whole_block, Spool(directory, reserve_bytes))
        self._opener, self._index = ChunkOpener(keys), index
        self._alone = Lock()
        """Held for the index and the store, which are for one thread; other threads decrypt meanwhile."""

    def close(self) -> None:
        """Remove the temporary files."""
        self._data_packs.close()
        self._tree_packs.close()

    def chunks(self, content: bytes) -> Iterator[bytes]:
        """Yield the chunks of a content that `need` has noted.

        Raises `RepositoryBroken`, StorageError, sqlite3.Error and OSError.
        """
        return map(self._opener.opened, map(self._fetched, ids_of(content)))

    def chunks_ahead(self, content: bytes) -> Generator[bytes, None, None]:
        """Yield as `chunks`, by two threads; the iterator is to be closed, and others wait for that."""
        return self._opener.opened_ahead(map(self._fetched, ids_of(content)))

    def note(self, key: bytes) -> None:
        """Note that `checked` will be asked for. Raises `RepositoryBroken` and sqlite3.Error."""
        with self._alone:
            if len(key) == ID_BYTES:
                self._index.need(self._place(key))

    def checked(self, key: bytes) -> Fetched:
        """Return a blob that was noted, in its encrypted form, checked. Raises as `chunks`."""
        found = self._fetched(key)
        with naming_pack(found.place):
            check_content(self._opener.cryptor.decrypt(found.encrypted), found.place, key[-ID_BYTES:])
        return found

    def needed_packs(self) -> dict[int, int]:
        """Return how many bytes will be fetched from each pack, by its number. Raises sqlite3.Error."""
        with self._alone:
            return self._index.needed_packs()

    def need(self, content: bytes) -> Iterator[Place]:
        """Yield the places of the chunks of a content, and note that they will be read.

        Raises `RepositoryBroken` and sqlite3.Error.
        """
        for blob_id in ids_of(content):
            with self._alone:
                place = self._place(blob_id)
                self._index.need(place)
            yield place

    def check(self, chunks: Iterable[bytes], packs: Iterable[int]) -> Iterator[int]:
        """Read every one of the chunks that is in one of these packs, once; yield its size.

        Raises as `chunks`.
        """
        self._index.choose(chunks, packs)
        fetched = map(self._fetched_at, self._index.chosen())
        with closing(self._opener.opened_ahead(fetched)) as contents:
            yield from map(len, contents)

    def tree(self, tree_id: bytes) -> Iterator[SavedNode]:
        """Yield the nodes of a tree, which was checked as a whole before, in the order of their names.

        Raises as `chunks`.
        """
        place, encrypted = self._fetched(tree_key(tree_id))
        with naming_pack(place):
            stored = self._opener.cryptor.decrypt(encrypted)
            del encrypted
            check_content(stored, place, tree_id)
        return _in_order(map(saved_node, items_of(pieces_of(stored, place), "nodes")))

    def _fetched(self, key: bytes) -> Fetched:
        with self._alone:
            return self._fetched_at(self._place(key))

    def _fetched_at(self, place: Place) -> Fetched:
        is_tree = len(place.key) > ID_BYTES
        if max(place.content_bytes, place.length) > (MOST_BLOB_BYTES if is_tree else _MOST_DATA_BYTES):
            kind = "tree" if is_tree else "chunk"
            raise RepositoryBroken(f"a {kind} of the repository is larger than any that is read")
        return Fetched(place, (self._tree_packs if is_tree else self._data_packs).read(place))

    def _place(self, key: bytes) -> Place:
        place = self._index.place(key)
        if place is None:
            raise self._index.missing()
        return place


def _in_order(nodes: Iterator[SavedNode]) -> Iterator[SavedNode]:
    """Yield the nodes. Raises `RepositoryBroken` for a name that comes twice or in the wrong place."""
    last = b""
    for node in nodes:
        if node.name <= last:
            raise RepositoryBroken("a tree of the repository has a name twice, or is not sorted")
        last = node.name
        yield node


def snapshots(objects: Objects, cryptor: Cryptor, check: Callable[[], None]) -> Iterator[Snapshot]:
    """Yield all snapshots, in any order; those that are removed meanwhile are missing.

    Raises `RepositoryBroken`, also for more than can be read in a sensible time, and StorageError.
    """
    for found in _snapshots(objects, cryptor, check):
        if isinstance(found, RepositoryBroken):
            raise found
        yield found


def whole_snapshots(objects: Objects, cryptor: Cryptor, check: Callable[[], None]) -> Iterator[Snapshot]:
    """Yield as `snapshots`, without those that are damaged: one of them does not take the others away.

    Raises `RepositoryBroken` when all of them are: the key is not theirs.
    """
    damage: list[RepositoryBroken] = []
    one_is_whole = False
    for found in _snapshots(objects, cryptor, check):
        if isinstance(found, RepositoryBroken):
            damage.append(found)
        else:
            one_is_whole = True
            yield found
    if damage and not one_is_whole:
        raise damage[0]
    if damage:
        log.warning("snapshots not readable", count=len(damage), first=str(damage[0]))


def _snapshots(
    objects: Objects, cryptor: Cryptor, check: Callable[[], None]
) -> Iterator[Snapshot | RepositoryBroken]:
    for name, _ in listed(objects, Kind.SNAPSHOT, _MOST_SNAPSHOTS, "name the one meant by its id"):
        check()
        try:
            yield snapshot_named(objects, cryptor, name)
        except NotFound:
            continue
        except RepositoryBroken as error:
            yield error


def snapshot_named(objects: Objects, cryptor: Cryptor, name: str) -> Snapshot:
    """Return a snapshot by its whole name. Raises `NotFound` and as `snapshots`."""
    return parsed(name, get_unpacked(objects, cryptor, Kind.SNAPSHOT, name, MOST_BYTES))
