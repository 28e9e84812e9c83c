"""What of an archive is restored, and where on the device it belongs."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from agent.base.errors import NotInArchive
from agent.base.roots import Root
from agent.formats.names import bad_entry, is_private
from agent.formats.zip.entry import ArchiveEntry
from agent.formats.zip.metadata import Kind
from agent.formats.zip.reader import ArchiveReader
from agent.formats.zip.survey import ArchiveLimits


@dataclass(frozen=True, slots=True)
class Choice:
    """Made of the device's settings and of the command; an archive has no say in it."""

    roots: tuple[Root, ...]
    """What is restored."""
    data_sets: tuple[Root, ...] = ()
    """All of the data sets that some of that belongs to; empty when it is one directory."""
    wanted: Mapping[str, str] = field(default_factory=dict)
    """Archived names, and what the command calls each; of all that it calls, something has to be there."""

    def check_sources(self, prefixes: Iterable[str]) -> None:
        """Raise `NotInArchive` for an archive of data sets that is taken for one of a directory.

        Its names would become directories there, and `replace` would empty the rest.
        """
        found = ", ".join(sorted({prefix.partition("/")[0] for prefix in prefixes if prefix}))
        if found and not self.data_sets:
            raise NotInArchive(
                f"nothing restored: the archive holds data sets ({found}): name some in 'restore.dataTypes'"
            )

    def roots_in(self, archive: ArchiveReader) -> tuple[Root, ...]:
        """The roots of which the archive holds something; what it does not hold at all, stays as it is.

        Raises `NotInArchive` when something that was asked for is not there, and ArchiveError for a name
        in one of the data sets that is in none of its paths on this device.
        """
        if not self.wanted:
            return self.roots
        missing, waiting = dict(self.wanted), set(self.roots)
        sets = {root.prefix.partition("/")[0] for root in self.data_sets}
        for entry in archive.entries():
            _strike_out(missing, entry.name)
            waiting -= {root for root in waiting if _is_in(root, entry.name)}
            if entry.name.partition("/")[0] in sets and not self._belongs(entry):
                raise bad_entry(
                    entry.name,
                    "is in none of the data set's paths on this device: choose others with 'restore.paths'",
                )
        if missing:
            names = ", ".join(f"'{name}'" for name in sorted(set(missing.values())))
            raise NotInArchive(f"nothing restored: the archive does not hold {names}")
        if len(waiting) == len(self.roots):
            raise NotInArchive("nothing restored: the archive holds nothing of what was chosen")
        return tuple(root for root in self.roots if root not in waiting)

    def parts(self, file: BinaryIO, limits: ArchiveLimits) -> dict[int, ArchiveReader]:
        """What of an archive belongs to each of the roots, by their numbers, where it holds something of it.

        Raises as `roots_in`, and as `survey` when all together is more than `limits` allow.
        """
        archive = ArchiveReader(file)
        held = self.roots_in(archive)
        if len(held) > 1:
            archive.survey(limits)
        return {
            number: archive if root == Root("", root.directory) else RootReader(file, root)
            for number, root in enumerate(self.roots)
            if root in held
        }

    def _belongs(self, entry: ArchiveEntry) -> bool:
        on_the_way = f"{entry.name}/"
        for root in self.data_sets:
            name = root.relative(entry.name)
            if name is not None and (root.holds(name) or (entry.kind is Kind.DIR and root.leads_to(name))):
                return True
            if entry.kind is Kind.DIR and root.prefix.startswith(on_the_way):
                return True
        return False


def _is_in(root: Root, archived: str) -> bool:
    name = root.relative(archived)
    return name is not None and root.holds(name)


def _strike_out(missing: dict[str, str], name: str) -> None:
    while name and missing:
        if called := missing.get(name):
            for other in [each for each, label in missing.items() if label == called]:
                del missing[other]
        name = name.rpartition("/")[0]


class RootReader(ArchiveReader):
    """What of an archive belongs to one root, with names that are relative to its directory."""

    def __init__(self, file: BinaryIO, root: Root) -> None:
        super().__init__(file)
        self._root = root

    def entries(self) -> Iterator[ArchiveEntry]:
        """As of the whole archive. Raises ArchiveError, too, for a file where the root's directory is."""
        for entry in super().entries():
            name = self._root.relative(entry.name)
            if name and self._root.holds(name):
                if is_private(name, directory=entry.kind is Kind.DIR):
                    raise bad_entry(entry.name, "begins like the agent's own directories")
                yield entry._replace(name=name, hard_link_to=self._first(entry))
            elif name == "" and entry.kind is not Kind.DIR:
                raise bad_entry(entry.name, "is a file, and the device has a directory there")

    def _first(self, entry: ArchiveEntry) -> str | None:
        """The earlier name of the same file, when that is restored, too."""
        name = None if entry.hard_link_to is None else self._root.relative(entry.hard_link_to)
        return name if name and self._root.holds(name) else None
