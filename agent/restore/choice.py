"""The part of an archive that is restored, and its place on the device."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.base.errors import NotInArchive
from agent.base.roots import Root, RootsByPrefix
from agent.formats.base import DIR, Item, SavedTree
from agent.formats.names import bad_entry
from agent.formats.survey import ArchiveLimits, Survey, SurveyedTree, check_limits
from agent.restore.mounts import apart
from agent.restore.root_tree import RootPart, RootTree, SharedListing


@dataclass(frozen=True, slots=True)
class Choice:
    """The choice of a command, within the device's settings. An archive cannot change it."""

    roots: tuple[Root, ...]
    """The roots that are restored."""
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
            names = ", ".join(f"'{name}'" for name in sorted(set(missing.values())))
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
