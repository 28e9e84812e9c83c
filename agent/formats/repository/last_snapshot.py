"""The device's last snapshot: whether its blobs still count as stored, and the state made again from it.

The device may not list what the repository holds. A blob that only a forgotten snapshot held is gone with the
next prune, and a snapshot that refers to it is broken, though its backup was a success. The state is made
again after new hardware, or when it was lost.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial

from agent.base.errors import RepositoryBroken
from agent.base.times import format_time, parse_time
from agent.formats.entries import DIR, FILE, may_change_unseen
from agent.formats.repository.blob_index import BlobIndex
from agent.formats.repository.chunker import MEAN_BYTES, FileKind
from agent.formats.repository.document import Snapshot
from agent.formats.repository.objects import Kind, Objects
from agent.formats.repository.packs import ID_BYTES, ids_of, tree_key
from agent.formats.repository.reader import Reader, whole_snapshots
from agent.formats.repository.saved_node import SavedNode
from agent.formats.repository.session import Session
from agent.formats.repository.state import ROOT, Row, State
from providers.errors import AccessDenied

_ROWS, _ROWS_BYTES = 1000, 1 << 20
"""So many rows, or bytes of ids in them, are kept at once."""
_MOST_ENTRIES = 10_000_000
"""A few trees that name each other twice are endless directories."""


def is_trusted(objects: Objects, state: State, now: datetime, trust_for: timedelta) -> bool:
    """Return True when the last snapshot exists, or was seen so lately that nobody has forgotten it."""
    name = state.fact("snapshot_id")
    if not name:
        return False
    exists = can_see(objects, name)
    if exists:
        state.remember(snapshot_seen=format_time(now))
    if exists is not None:
        return exists
    # Stores answer 403 for what is missing, too: who could see it once would see it now.
    return not state.fact("can_see") and abs(now - parse_time(state.fact("snapshot_seen"))) <= trust_for


def can_see(objects: Objects, name: str) -> bool | None:
    """Return True when a snapshot exists; None when the device has no right to know."""
    try:
        return objects.exists(Kind.SNAPSHOT, name)
    except AccessDenied:
        return None


def last_snapshot(session: Session, host: str, paths: list[str]) -> Snapshot | None:
    """Return the latest snapshot of this device with these paths. Raises as `Reader.tree`."""
    found = (
        snapshot
        for snapshot in whole_snapshots(session.objects, session.cryptor, session.check)
        if snapshot.hostname == host and sorted(snapshot.paths) == paths
    )
    return max(found, key=lambda snapshot: snapshot.time, default=None)


def rebuild(session: Session, snapshot: Snapshot, now: datetime) -> None:
    """Fill the empty state with a snapshot; entries whose blobs are not stored stay away.

    Raises `RepositoryBroken`, StorageError, sqlite3.Error and Cancelled.
    """
    with closing(BlobIndex(session.directory)) as index:
        index.load(session.objects, session.cryptor, session.check)
        fetch = partial(session.objects.get_range, Kind.PACK)
        keys, directory = session.opened.keys, session.directory
        with closing(Reader(fetch, keys, index, directory, session.reserve_bytes)) as reader:
            _Rebuilding(session, index, reader, snapshot.begun).run(snapshot.tree)
    session.state.remember(
        snapshot_id=snapshot.id,
        snapshot_tree=snapshot.tree.hex(),
        snapshot_seen=format_time(now),
    )


class _Rebuilding:
    def __init__(self, session: Session, index: BlobIndex, reader: Reader, begun: datetime) -> None:
        self._begun_ns = int(begun.timestamp() * 1e9)
        self._state, self._index, self._reader = session.state, index, reader
        self._check = session.check
        self._left = _MOST_ENTRIES

    def run(self, tree: bytes) -> None:
        self._state.use(tree_key(tree))
        waiting = [(ROOT, tree)]
        while waiting:
            number, tree_id = waiting.pop()
            waiting += self._directory(number, tree_id)

    def _directory(self, number: int, tree_id: bytes) -> Iterator[tuple[int, bytes]]:
        """Keep the entries of a directory; yield the numbers and trees of those in it."""
        rows: list[Row] = []
        count = held_bytes = 0
        for node in self._reader.tree(tree_id):
            self._left -= 1
            if self._left < 0:
                raise RepositoryBroken(f"the last snapshot has more than {_MOST_ENTRIES} entries")
            if node.kind is None or not self._index.has_all(_keys(node)):
                continue
            count += 1
            held_bytes += len(node.content)
            child = self._state.new_directory() if node.kind is DIR else 0
            rows.append(Row(number, node.name, node.signature, node.content, child, self._kind(node)))
            if child:
                yield child, node.content
            for key in _keys(node):
                self._state.use(key)
            if len(rows) >= _ROWS or held_bytes >= _ROWS_BYTES:
                self._keep(rows)
                held_bytes = 0
        self._keep(rows)
        self._state.set_size(number, count)

    def _keep(self, rows: list[Row]) -> None:
        self._check()
        self._state.keep(rows)
        rows.clear()

    def _kind(self, node: SavedNode) -> int:
        """Return the kind of an entry; one that is younger than the job is looked at again."""
        young = may_change_unseen(node.mtime_ns, node.ctime_ns, self._begun_ns)
        return self._cut(node) | (FileKind.RACY if young else FileKind.NONE)

    def _cut(self, node: SavedNode) -> int:
        """Return how a file was cut; NONE when it has one chunk, which tells nothing."""
        if node.kind is not FILE or len(node.content) <= ID_BYTES:
            return FileKind.NONE
        place = self._index.place(node.content[:ID_BYTES])
        is_fixed = place is not None and place.content_bytes == MEAN_BYTES
        return FileKind.FIXED | FileKind.SQLITE if is_fixed else FileKind.BY_CONTENT


def _keys(node: SavedNode) -> Iterable[bytes]:
    """Return the keys of the blobs that an entry names itself."""
    return [tree_key(node.content)] if node.kind is DIR else ids_of(node.content)
