"""The part of an archive that is restored, divided among the roots of the restore."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from agent.base.errors import ArchiveError, NotInArchive
from agent.base.roots import Root, RootsByPrefix
from agent.base.text import readable
from agent.formats.base import SavedTree
from agent.formats.entries import DIR, Item
from agent.formats.entry_checks import ArchiveLimits, Survey, SurveyedTree, Surveyor, check_limits
from agent.formats.entry_names import bad_entry
from agent.formats.manifest import Manifest
from agent.restore.mounts import apart


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


@dataclass(frozen=True, slots=True)
class Choice:
    """The choice of a command, within the device's settings. An archive cannot change it."""

    roots: tuple[Root, ...]
    data_sets: tuple[Root, ...] = ()
    """All roots of the data sets that `roots` belong to; empty for a directory."""
    wanted: Mapping[str, str] = field(default_factory=dict)
    """Archived names, each with its name in the command, of which the archive must have at least a part."""
    mounted: frozenset[Root] = frozenset()
    """Those of the roots that are mount points in another one."""

    def over_mounts(self, own: Collection[Path]) -> "Choice":
        """Return the choice with mount points in its roots as roots of their own; `own`: see `apart`."""
        parts = [apart(root, own) for root in self.roots]
        mounted = frozenset(inner for _, *others in parts for inner in others)
        return replace(self, roots=tuple(root for part in parts for root in part), mounted=mounted)

    def check_sources(self, prefixes: Iterable[str]) -> None:
        """Raise `NotInArchive` for an archive of data sets that the command restores into a directory.

        The names of data sets would become directories there, and `replace` would remove everything else.
        """
        found = ", ".join(sorted({prefix.partition("/")[0] for prefix in prefixes if prefix}))
        if found and not self.data_sets:
            raise NotInArchive(
                f"nothing restored: the archive holds data sets ({found}): name some in 'restore.dataTypes'"
            )

    def trees(self, tree: SavedTree, limits: ArchiveLimits) -> dict[int, SurveyedTree]:
        """Return the part of an archive for each root that it holds something of, by the roots' numbers.

        A root that the archive does not hold at all stays as it is. The archive is listed once, however many
        roots there are. Raises `NotInArchive` when something that was asked for is not there, ArchiveError
        for a name in one of the data sets that is in none of its paths on this device, and as `take_survey`,
        also when all roots together are more than `limits` allow.
        """
        parts, missing = self._divided(tree, limits)
        if missing:
            names = ", ".join(f"'{readable(name)}'" for name in sorted(set(missing.values())))
            raise NotInArchive(f"nothing restored: the archive does not hold {names}")
        held = {number: part for number, part in enumerate(parts) if part.is_held}
        if self.wanted and not held:
            raise NotInArchive("nothing restored: the archive holds nothing of what was chosen")
        found = {number: part.surveyed() for number, part in held.items()}
        check_limits(sum((each.survey for each in found.values()), Survey()), limits)
        return found

    def _divided(self, tree: SavedTree, limits: ArchiveLimits) -> tuple[list[RootPart], dict[str, str]]:
        """Return the parts of all roots, and the wanted names that the archive does not hold."""
        listing, missing = SharedListing(tree), dict(self.wanted)
        longest = max(map(len, missing), default=0)
        parts = [self._part(RootTree(tree, root, listing), limits) for root in self.roots]
        near_roots, near_data_sets = RootsByPrefix(self.roots), RootsByPrefix(self.data_sets)
        for position, item in enumerate(tree.items()):
            _strike_out(missing, item.name[: longest + 1])  # linear, however deep the name is
            if near_data_sets.knows(item.name) and not self._belongs(item, near_data_sets):
                raise bad_entry(
                    item.name,
                    "is in none of the data set's paths on this device: choose others with 'restore.paths'",
                )
            for number in near_roots.around(item.name):
                parts[number].look(position, item)
        return parts, missing

    def _part(self, tree: RootTree, limits: ArchiveLimits) -> RootPart:
        is_mounted = tree.root in self.mounted
        return RootPart(tree, limits, is_held=not (self.wanted or is_mounted), is_mounted=is_mounted)

    def _belongs(self, item: Item, near: RootsByPrefix) -> bool:
        for number in near.around(item.name):
            root = self.data_sets[number]
            name = root.relative(item.name)
            if name is not None and (root.holds(name) or (item.kind is DIR and root.leads_to(name))):
                return True
        return item.kind is DIR and near.leads_to(item.name)


def _strike_out(missing: dict[str, str], name: str) -> None:
    while name and missing:
        if called := missing.get(name):
            for other in [each for each, label in missing.items() if label == called]:
                del missing[other]
        name = name.rpartition("/")[0]
