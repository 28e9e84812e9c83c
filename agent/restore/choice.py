"""The part of an archive that is restored, and its place on the device."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.base.errors import NotInArchive
from agent.base.roots import Root
from agent.formats.base import DIR, Item, SavedTree
from agent.formats.manifest import Manifest
from agent.formats.names import bad_entry
from agent.formats.survey import ArchiveLimits, take_survey
from agent.restore.mounts import apart


@dataclass(frozen=True, slots=True)
class Choice:
    """Made of the device's settings and of the command; an archive has no say in it."""

    roots: tuple[Root, ...]
    """The roots that are restored."""
    data_sets: tuple[Root, ...] = ()
    """All of the data sets that some of that belongs to; empty when it is one directory."""
    wanted: Mapping[str, str] = field(default_factory=dict)
    """Archived names, and what the command calls each; of all that it calls, something has to be there."""
    mounted: frozenset[Root] = frozenset()
    """Those of the roots that are what is mounted in another one."""

    def over_mounts(self, own: Collection[Path]) -> "Choice":
        """Return the choice with what is mounted in the roots as roots of their own; `own`: see `apart`."""
        parts = [apart(root, own) for root in self.roots]
        mounted = frozenset(inner for _, *others in parts for inner in others)
        return replace(self, roots=tuple(root for part in parts for root in part), mounted=mounted)

    def check_sources(self, prefixes: Iterable[str]) -> None:
        """Raise `NotInArchive` for an archive of data sets that is taken for one of a directory.

        Its names would become directories there, and `replace` would empty the rest.
        """
        found = ", ".join(sorted({prefix.partition("/")[0] for prefix in prefixes if prefix}))
        if found and not self.data_sets:
            raise NotInArchive(
                f"nothing restored: the archive holds data sets ({found}): name some in 'restore.dataTypes'"
            )

    def roots_in(self, tree: SavedTree) -> tuple[Root, ...]:
        """The roots of which the archive holds something; what it does not hold at all, stays as it is.

        Raises `NotInArchive` when something that was asked for is not there, and ArchiveError for a name
        in one of the data sets that is in none of its paths on this device.
        """
        if not (self.wanted or self.mounted):
            return self.roots
        missing, waiting = dict(self.wanted), set(self.roots if self.wanted else self.mounted)
        sets = {root.prefix.partition("/")[0] for root in self.data_sets}
        for item in tree.items():
            _strike_out(missing, item.name)
            waiting -= {root for root in waiting if self._is_held(root, item.name)}
            if item.name.partition("/")[0] in sets and not self._belongs(item):
                raise bad_entry(
                    item.name,
                    "is in none of the data set's paths on this device: choose others with 'restore.paths'",
                )
        if missing:
            names = ", ".join(f"'{name}'" for name in sorted(set(missing.values())))
            raise NotInArchive(f"nothing restored: the archive does not hold {names}")
        if self.wanted and len(waiting) == len(self.roots):
            raise NotInArchive("nothing restored: the archive holds nothing of what was chosen")
        return tuple(root for root in self.roots if root not in waiting)

    def trees(self, tree: SavedTree, limits: ArchiveLimits) -> dict[int, SavedTree]:
        """Return the part of an archive for each root that it holds something of, by the roots' numbers.

        Raises as `roots_in`, and as `take_survey` when all together is more than `limits` allow.
        """
        held = self.roots_in(tree)
        if len(held) > 1:
            take_survey(tree.items(), limits)
        return {number: RootTree(tree, root) for number, root in enumerate(self.roots) if root in held}

    def _is_held(self, root: Root, archived: str) -> bool:
        """An archive that has only the name of a mount point was made while nothing was mounted there."""
        name = root.relative(archived)
        return name is not None and root.holds(name) and (bool(name) or root not in self.mounted)

    def _belongs(self, item: Item) -> bool:
        on_the_way = f"{item.name}/"
        for root in self.data_sets:
            name = root.relative(item.name)
            if name is not None and (root.holds(name) or (item.kind is DIR and root.leads_to(name))):
                return True
            if item.kind is DIR and root.prefix.startswith(on_the_way):
                return True
        return False


def _strike_out(missing: dict[str, str], name: str) -> None:
    while name and missing:
        if called := missing.get(name):
            for other in [each for each, label in missing.items() if label == called]:
                del missing[other]
        name = name.rpartition("/")[0]


class RootTree:
    """The part of an archive that belongs to one root, with names relative to its directory."""

    def __init__(self, tree: SavedTree, root: Root) -> None:
        self._tree, self._root = tree, root

    def manifest(self) -> Manifest | None:
        return self._tree.manifest()

    def items(self) -> Iterator[Item]:
        """As of the whole archive, with the root's own entry, whose name is empty, and those on the way.

        Raises ArchiveError, too, for a file where the root's directory is.
        """
        if not self._root.prefix:
            yield from self._top()
        if self._root == Root("", self._root.directory):
            yield from self._tree.items()
        else:
            yield from self._chosen()

    def _top(self) -> Iterator[Item]:
        manifest = self._tree.manifest()
        if manifest and (top := manifest.root):
            facts = (top.mode, top.mtime_ns, top.uid, top.gid, 0, 0, top.attributes())
            yield Item("", DIR, *facts, None, None, on_the_way=self._root.names is not None)

    def _chosen(self) -> Iterator[Item]:
        for item in self._tree.items():
            name = self._root.relative(item.name)
            if name is None:
                continue
            if name and self._root.holds(name):
                yield item._replace(name=name, hard_link_to=self._first(item))
            elif item.kind is not DIR:
                if not name:
                    raise bad_entry(item.name, "is a file, and the device has a directory there")
            elif not name or self._root.leads_to(name):
                yield item._replace(name=name, on_the_way=self._root.names is not None)

    def read(self, item: Item, write: Callable[[bytes], object]) -> None:
        self._tree.read(item, write)

    def contents(self, items: Sequence[Item]) -> Iterator[bytes]:
        return self._tree.contents(items)

    def span_bytes(self, first: Item, last: Item) -> int:
        return self._tree.span_bytes(first, last)

    def checksum(self, item: Item) -> str:
        return self._tree.checksum(item)

    def _first(self, item: Item) -> str | None:
        """The earlier name of the same file, when that is restored, too."""
        name = None if item.hard_link_to is None else self._root.relative(item.hard_link_to)
        return name if name and self._root.holds(name) else None
