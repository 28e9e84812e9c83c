"""The content of one snapshot, as restores and queries read any archive."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from random import SystemRandom
from threading import Lock

from agent.base.roots import Root
from agent.formats.attributes import AttributeBudget, cost_of
from agent.formats.entries import DIR, FILE, LINK, Item
from agent.formats.entry_names import bad_entry
from agent.formats.manifest import Manifest, ManifestRoot
from agent.formats.repository.blob_index import Place
from agent.formats.repository.document import Snapshot, manifest_of
from agent.formats.repository.listing import Listing
from agent.formats.repository.packs import ids_of
from agent.formats.repository.reader import Reader
from agent.formats.repository.saved_node import NO_ID, SavedNode
from agent.formats.repository.saved_roots import SavedRoot, saved_roots, sole_root
from agent.formats.repository.session import state_errors
from agent.formats.repository.tree_walk import TreeWalk
from providers.errors import TooLarge

_LARGE_BYTES = 1 << 20
"""A file from this size on is worth a second thread."""
_MOST_RATIO = 1024
"""The highest compression ratio that counts: zstd shrinks the holes of sparse files further than Deflate can,
for which `restore.maxRatio` is set."""


class SnapshotTree:
    """A snapshot whose repository is open. Lists all trees once, at the first need."""

    def __init__(
        self,
        snapshot: Snapshot,
        reader: Reader,
        scratch: Path,
        check: Callable[[], None],
        *,
        most_entries: int,
    ) -> None:
        """`scratch` is the directory for a temporary list of the entries."""
        self._snapshot, self._reader, self._scratch, self._check = snapshot, reader, scratch, check
        self._most_entries = most_entries
        self._alone = Lock()
        self._manifest: Manifest | None = None
        self._listing: Listing | None = None

    def manifest(self) -> Manifest:
        with self._alone, state_errors(self._scratch):
            if self._manifest is None:
                found = sole_root(self._snapshot, self._walk())
                self._manifest = manifest_of(self._snapshot, found and found.root, found and found.top)
            return self._manifest

    def items(self) -> Iterator[Item]:
        with state_errors(self._scratch):
            for item in self._listed().items():
                self._check()
                yield item

    def read(self, item: Item, write: Callable[[bytes], object]) -> None:
        if item.kind is LINK:
            write(item.location)
            return
        left = item.size
        with closing(self._chunks(item)) as chunks:
            for chunk in chunks:
                left -= len(chunk)
                if left < 0:
                    break
                write(chunk)
        if left:
            raise bad_entry(item.name, "has not the size that it announces")

    def contents(self, items: Sequence[Item]) -> Iterator[bytes]:
        with state_errors(self._scratch):
            for item in items:
                content = b"".join(self._reader.chunks(item.location))
                if len(content) != item.size:
                    raise bad_entry(item.name, "has not the size that it announces")
                yield content

    def span_bytes(self, first: Item, last: Item) -> int:
        return first.packed_size + last.packed_size

    @property
    def reads_quickly(self) -> bool:
        return False

    def checksum(self, _item: Item) -> None:
        """Return None: each chunk has a checksum, and a file has none."""
        return

    def packed_bytes(self) -> int:
        """Return how many bytes of packs are fetched for all files. Raises as `items`."""
        with state_errors(self._scratch):
            self._listed()
            return sum(self._reader.needed_packs().values())

    def verify(self, most_bytes: int, passed: Callable[[int], object]) -> int:
        """Read every chunk once, in the order of the packs; return how many bytes of packs were fetched.

        With `most_bytes`, read those in some packs, chosen at random. `passed` is told the size of each
        chunk. Raises as `read`, and `TooLarge` when every pack is too large.
        """
        with state_errors(self._scratch):
            listing, packs = self._listed(), _sample(self._reader.needed_packs(), most_bytes)
            for size_bytes in self._reader.check(self._chunk_ids(listing), packs):
                self._check()
                passed(size_bytes)
            return sum(packs.values())

    def close(self) -> None:
        self._reader.close()
        if self._listing:
            self._listing.close()

    def _chunk_ids(self, listing: Listing) -> Iterator[bytes]:
        for content in listing.contents():
            for chunk_id in ids_of(content):
                self._check()
                yield chunk_id

    def _chunks(self, item: Item) -> Generator[bytes, None, None]:
        with state_errors(self._scratch):
            if item.size < _LARGE_BYTES:
                yield from self._reader.chunks(item.location)
            else:
                with closing(self._reader.chunks_ahead(item.location)) as chunks:
                    yield from chunks

    def _walk(self) -> TreeWalk:
        return TreeWalk(self._reader, self._check, self._most_entries)

    def _listed(self) -> Listing:
        with self._alone:
            if self._listing is None:
                listing = Listing(self._scratch)
                try:
                    _Lister(listing, self._reader, self._check).run(self._snapshot, self._walk())
                except BaseException:
                    listing.close()
                    raise
                self._listing = listing
            return self._listing


class _Lister:
    """Checks the entries of a snapshot, and puts them into a list."""

    def __init__(self, listing: Listing, reader: Reader, check: Callable[[], None]) -> None:
        self._listing, self._reader, self._check = listing, reader, check
        self._attributes = AttributeBudget()

    def run(self, snapshot: Snapshot, walk: TreeWalk) -> None:
        collected = SavedRoot(ManifestRoot(path="/"), None, snapshot.tree)
        for found in saved_roots(snapshot, walk) or [collected]:
            root = _root(found.root)
            if root.prefix and found.top:
                self._add(root.prefix, found.top)
            for name, node in walk.below(found.tree, root):
                self._add(root.archived(name), node)

    def _add(self, name: str, node: SavedNode) -> None:
        if node.xattrs and not self._attributes.take(cost_of(node.xattrs)):
            raise bad_entry(name, "has more extended attributes than any that is restored")
        if node.kind is DIR:
            self._listing.add(_item(name, node), 0, 0)
        elif node.kind is LINK:
            self._listing.add(_link(name, node), 0, 0)
        elif node.kind is FILE:
            self._file(name, node)

    def _file(self, name: str, node: SavedNode) -> None:
        first: Place | None = None
        size = packed = 0
        for place in self._reader.need(node.content):
            self._check()
            first = first or place
            size += place.content_bytes
            packed += max(place.length, place.content_bytes // _MOST_RATIO)
        if size != node.size_bytes:
            raise bad_entry(name, "has not the size that it announces")
        link = None
        if node.links > 1:
            link = self._listing.first_name(node.device, node.inode, node.content, name)
        item = _item(name, node, size, packed, node.content, hard_link_to=link)
        self._listing.add(item, first.number if first else 0, first.offset if first else 0)


def _sample(packs: Mapping[int, int], most_bytes: int) -> Mapping[int, int]:
    """Return packs with no more than so many bytes, chosen at random; all of them for 0."""
    if not most_bytes:
        return packs
    found: dict[int, int] = {}
    for pack in SystemRandom().sample(list(packs), len(packs)):
        if packs[pack] <= most_bytes:
            found[pack] = packs[pack]
            most_bytes -= packs[pack]
    if packs and not found:
        raise TooLarge(f"no pack of the snapshot is as small as the {most_bytes} bytes that may be fetched")
    return found


def _root(root: ManifestRoot) -> Root:
    """Return the root with its printable names."""
    return Root(root.prefix, Path(root.path), None if root.names is None else frozenset(root.names))


def _item(
    name: str,
    node: SavedNode,
    size: int = 0,
    packed: int = 0,
    location: bytes = b"",
    *,
    hard_link_to: str | None = None,
) -> Item:
    assert node.kind
    uid = None if node.uid == NO_ID else node.uid
    gid = None if node.gid == NO_ID else node.gid
    mode = node.mode & 0o7777
    return Item(
        name, node.kind, mode, node.mtime_ns, uid, gid, size, packed, node.xattrs, hard_link_to, location
    )


def _link(name: str, node: SavedNode) -> Item:
    if not node.target:
        raise bad_entry(name, "is a link to nothing")
    size = len(node.target)
    return _item(name, node, size, size, node.target)
