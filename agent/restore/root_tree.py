"""The part of an archive that belongs to one root of a restore."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from agent.base.errors import ArchiveError
from agent.base.roots import Root
from agent.formats.base import DIR, Item, SavedTree
from agent.formats.manifest import Manifest
from agent.formats.names import bad_entry
from agent.formats.survey import ArchiveLimits, SurveyedTree, Surveyor


class SharedListing:
    """One listing of an archive that the trees of several roots read one after another.

    Our archives keep one root behind the other: a root goes on where the last one ended, and all of them
    together list the archive once. In any other order it is listed again from the beginning.
    """

    def __init__(self, tree: SavedTree) -> None:
        self._tree = tree
        self._left: list[tuple[int, Iterator[Item]]] = []

    def between(self, first: int, end: int | None) -> Iterator[Item]:
        """Yield the items from the number `first` to the one before `end`; None for all to the last."""
        try:
            position, items = self._left.pop()  # taken away: a second reader at the same time lists anew
        except IndexError:
            position, items = first + 1, iter(())
        if position > first:
            position, items = 0, self._tree.items()
        yield from islice(items, first - position, end if end is None else end - position)
        if end is not None:
            self._left = [(end, items)]


class RootTree:
    """The part of an archive that belongs to one root, with names relative to its directory."""

    def __init__(self, tree: SavedTree, root: Root, listing: SharedListing | None = None) -> None:
        """`listing` is shared with the other roots of the restore."""
        self.root = root
        self._tree, self._listing = tree, listing or SharedListing(tree)
        self._first = 0
        self._end: int | None = None
        self._is_whole = root == Root("", root.directory)

    def manifest(self) -> Manifest | None:
        return self._tree.manifest()

    def items(self) -> Iterator[Item]:
        """Yield the root's items, its own with an empty name, and the directories on the way.

        Raises ArchiveError also for a file in the place of the root's directory.
        """
        if not self.root.prefix:
            yield from self._top()
        for item in self._listing.between(self._first, self._end):
            chosen = self.chosen(item)
            if chosen is not None:
                yield chosen

    def lies(self, first: int, end: int) -> None:
        """Limit `items` to those from the number `first` to the one before `end`."""
        self._first, self._end = first, end

    def _top(self) -> Iterator[Item]:
        manifest = self._tree.manifest()
        if manifest and (top := manifest.root):
            facts = (top.mode, top.mtime_ns, top.uid, top.gid, 0, 0, top.attributes())
            yield Item("", DIR, *facts, None, None, on_the_way=self.root.names is not None)

    def chosen(self, item: Item) -> Item | None:
        """Return an item with its name in this root; None when it is in another one. Raises as `items`."""
        root = self.root
        if self._is_whole:
            return item
        name = root.relative(item.name)
        if name is None:
            return None
        if name and root.holds(name):
            return item._replace(name=name, hard_link_to=self._first_name(item))
        if item.kind is not DIR:
            if not name:
                raise bad_entry(item.name, "is a file, and the device has a directory there")
            return None
        if name and not root.leads_to(name):
            return None
        return item._replace(name=name, on_the_way=root.names is not None)

    def read(self, item: Item, write: Callable[[bytes], object]) -> None:
        self._tree.read(item, write)

    def contents(self, items: Sequence[Item]) -> Iterator[bytes]:
        return self._tree.contents(items)

    def span_bytes(self, first: Item, last: Item) -> int:
        return self._tree.span_bytes(first, last)

    @property
    def reads_quickly(self) -> bool:
        return self._tree.reads_quickly

    def checksum(self, item: Item) -> str | None:
        return self._tree.checksum(item)

    def _first_name(self, item: Item) -> str | None:
        """Return the earlier name of a file with several names, if it is restored, too."""
        name = None if item.hard_link_to is None else self.root.relative(item.hard_link_to)
        return name if name and self.root.holds(name) else None


class RootPart:
    """The part of a root while the archive is listed."""

    def __init__(self, tree: RootTree, limits: ArchiveLimits, *, is_held: bool, is_mounted: bool) -> None:
        """`is_held`: the root is restored even when the archive has nothing of it."""
        self.is_held = is_held
        """True when the root is restored, most often because the archive has something of it."""
        self._tree, self._surveyor, self._is_mounted = tree, Surveyor(limits), is_mounted
        self._first = self._end = 0
        self._problem: ArchiveError | None = None

    def look(self, position: int, item: Item) -> None:
        """Count an item, which has this number in the listing. Raises as `take_survey`."""
        self.is_held = self.is_held or self._holds(item.name)
        try:
            chosen = self._tree.chosen(item)
        except ArchiveError as error:  # raised later, if the root is restored at all
            self._problem = self._problem or error
            self.is_held = self.is_held or self._is_mounted  # a file in the place of a mount point
            return
        if chosen is None:
            return
        if not self._end:
            self._first = position
        self._end = position + 1
        self._surveyor.add(chosen)

    def surveyed(self) -> SurveyedTree:
        """Return the tree of the root with its survey. Raises ArchiveError."""
        if self._problem:
            raise self._problem
        self._tree.lies(self._first, self._end)
        return SurveyedTree(self._tree, self._surveyor.end())

    def _holds(self, archived: str) -> bool:
        """Return True for a name of the root. A mount point alone was saved while nothing was mounted."""
        name = self._tree.root.relative(archived)
        return name is not None and self._tree.root.holds(name) and (bool(name) or not self._is_mounted)
