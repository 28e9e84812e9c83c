"""Reads the snapshots of a repository, behind the seam of `agent.formats.base`."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from agent.base.durable import make_directories
from agent.base.errors import OF_ANOTHER_DEVICE, NoneChosen, NoRepository
from agent.formats.archive_names import NamedArchive, OwnArchives, device_tag
from agent.formats.base import Freed, Removal, SavedTree, Unlock
from agent.formats.manifest import Manifest
from agent.formats.repository.blob_index import BlobIndex
from agent.formats.repository.crypto import Cryptor
from agent.formats.repository.document import Snapshot, manifest_of
from agent.formats.repository.keys import Opened, open_repository
from agent.formats.repository.objects import Kind, StoredObjects
from agent.formats.repository.prune import PruneJob
from agent.formats.repository.reader import Reader, snapshot_named, whole_snapshots
from agent.formats.repository.saved_tree import SnapshotTree
from agent.formats.repository.session import in_use, state_directory, state_errors
from agent.transfer.archive_files import Fetch
from agent.transfer.cancel import CancelToken
from agent.transfer.context import Context, Destination
from agent.transfer.streams import RateLimit
from providers.api import Stored
from providers.errors import NotFound, TargetAbsent

_NAMED = 4
"""The most snapshots that a message names."""


@dataclass(frozen=True, slots=True)
class FetchedSnapshot:
    """A snapshot whose document was read; the rest is read where it lies."""

    stored: Stored
    content: SnapshotTree
    most_bytes: int
    """The most bytes of packs that `verify` fetches; 0 for no limit."""

    def sha256(self, _token: CancelToken) -> str:
        """Return the snapshot's name, which is the SHA-256 of its document and so vouches for all of it."""
        return self.stored.name

    def tree(self, _unlock: Unlock) -> SnapshotTree:
        return self.content

    def verify(self, _tree: SavedTree, passed: Callable[[int], object]) -> int:
        return self.content.verify(self.most_bytes, passed)


@dataclass(frozen=True, slots=True)
class Snapshots:
    """The format; a destination has the repository's prefix, and the snapshot's name or how it begins."""

    password: str = field(repr=False)
    scratch: Path
    """A directory for temporary files; it is made when it is missing."""
    most_entries: int
    """The most entries of a snapshot that is read."""
    reserve_bytes: int
    """Free space that has to be left where the temporary files are."""
    _opened: dict[str, Opened] = field(default_factory=dict, repr=False, compare=False)
    """The repositories that were opened, by location: scrypt takes its time."""

    @contextmanager
    def fetched(self, order: Fetch, context: Context) -> Iterator[FetchedSnapshot]:
        context.phase("fetching")
        destination, check = order.destination, context.token.check
        objects = StoredObjects(destination.storage, destination.prefix, context.rate())
        snapshot = self._snapshot(objects, destination, destination.name or "")
        state = state_directory(self.scratch, destination.repository)
        with (
            in_use(state),
            closing(self._new_index()) as index,
            closing(self._tree(objects, destination, snapshot, index, check)) as tree,
        ):
            stored = Stored(snapshot.id, tree.packed_bytes(), place=destination.shown)
            yield FetchedSnapshot(stored, tree, order.max_bytes)

    def listed(self, destination: Destination, own: OwnArchives) -> list[NamedArchive]:
        objects = _objects(destination)
        opened = self._open(objects, destination)
        found = (_named(each) for each in whole_snapshots(objects, Cryptor(opened.keys), lambda: None))
        return list(filter(own.include, found))

    def manifest(self, destination: Destination, name: str, _unlock: Unlock) -> Manifest:
        return manifest_of(self._snapshot(_objects(destination), destination, name))

    def open(self, destination: Destination, name: str, _unlock: Unlock) -> SnapshotTree:
        objects = _objects(destination)
        snapshot = self._snapshot(objects, destination, name)
        return self._tree(objects, destination, snapshot, self._new_index(), lambda: None)

    def _tree(
        self,
        objects: StoredObjects,
        destination: Destination,
        snapshot: Snapshot,
        index: BlobIndex,
        check: Callable[[], None],
    ) -> SnapshotTree:
        keys = self._open(objects, destination).keys
        with state_errors(self.scratch):
            index.load(objects, Cryptor(keys), check)
        fetch = partial(objects.get_range, Kind.PACK)
        reader = Reader(fetch, keys, index, self.scratch, self.reserve_bytes)
        return SnapshotTree(snapshot, reader, self.scratch, check, most_entries=self.most_entries)

    def _snapshot(self, objects: StoredObjects, destination: Destination, name: str) -> Snapshot:
        """Return the snapshot with this name, or the only one whose name begins so.

        Raises `NotFound`, and `NoneChosen` when several begin so.
        """
        cryptor = Cryptor(self._open(objects, destination).keys)
        names = [name] if len(name) == 64 else _beginning(objects, name)
        if len(names) > 1:
            several = ", ".join(each[:12] for each in names[:_NAMED])
            raise NoneChosen(f"several snapshots begin with '{name}' ({several}): give more of the id")
        if not names:
            raise NotFound(f"there is no snapshot '{name}' at {destination.shown}")
        return snapshot_named(objects, cryptor, names[0])

    def _open(self, objects: StoredObjects, destination: Destination) -> Opened:
        where = destination.repository
        if where not in self._opened:
            try:
                self._opened[where] = open_repository(objects, self.password)
            except TargetAbsent:
                raise
            except NotFound as error:
                raise NoRepository(f"there is no repository at {where}; {OF_ANOTHER_DEVICE}") from error
        return self._opened[where]

    def _new_index(self) -> BlobIndex:
        with state_errors(self.scratch):
            make_directories(self.scratch, 0o700)
            return BlobIndex(self.scratch)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedSnapshots(Snapshots):
    """The format for retention."""

    host: str
    """The device's id."""
    most_unused_percent: int
    """The percentage of the repository that may stay unused (`repository.maxUnused`)."""

    def remove(self, removal: Removal) -> Freed:
        destination = removal.destination
        objects = StoredObjects(destination.storage, destination.prefix, removal.context.rate())
        job = PruneJob(
            objects,
            self._open(objects, destination),
            state_directory(self.scratch, destination.repository),
            self.host,
            self.most_unused_percent,
            self.reserve_bytes,
            removal.context.token.check,
        )
        return job.run(removal)


def _objects(destination: Destination) -> StoredObjects:
    return StoredObjects(destination.storage, destination.prefix, RateLimit(0, CancelToken()))


def _beginning(objects: StoredObjects, name: str) -> list[str]:
    return sorted(each for each, _ in objects.list(Kind.SNAPSHOT) if each.startswith(name))


def _named(snapshot: Snapshot) -> NamedArchive:
    series = snapshot.tag("name") or "backup"
    return NamedArchive(snapshot.id, series, snapshot.time, device_tag(snapshot.hostname))
