"""The sources of archives: as manifest and journal record them, and as a restore asks for them."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from agent.base.roots import Root, is_in
from agent.base.text import printable, readable

Archive = TypeVar("Archive")

MAX_TEXT_BYTES = 4096
"""A longer list of single paths is not kept in the journal; the archive's manifest has it."""


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """One directory, or data sets; neither for the files that a command of the device collected."""

    directory: str = ""
    data_sets: frozenset[str] = frozenset()
    paths: frozenset[str] | None = None
    """Only these paths, by their archived names; None for everything."""

    @classmethod
    def of_roots(cls, roots: Iterable[Root]) -> "ArchiveSource":
        """Return the source of a job's roots, as the manifest of its archive says it."""
        return cls.of(
            (
                printable(root.prefix),
                printable(os.fspath(root.directory)),
                None if root.names is None else map(printable, root.names),
            )
            for root in roots
        )

    @classmethod
    def of(cls, roots: Iterable[tuple[str, str, Iterable[str] | None]]) -> "ArchiveSource":
        """Return the source of roots, each given by prefix, directory and names.

        Names are printable, as manifests have them.
        """
        directory, paths, everything = "", set[str](), False
        for prefix, where, names in roots:
            if prefix:
                paths |= {prefix} if names is None else {f"{prefix}/{name}" for name in names}
            else:
                directory, everything = where, names is None
                paths |= set(names or ())
        data_sets = frozenset(path.partition("/")[0] for path in paths) if not directory else frozenset()
        return cls(directory, data_sets, frozenset(paths) if paths and not everything else None)

    def holds(self, asked: "Asked") -> bool:
        """Return True when an archive of this source serves a restore of `asked`.

        It must have the whole directory, or all paths that are asked for. Data sets are compared by name:
        their paths may have changed in the settings since. A file may be in any archive that has its place.
        """
        if isinstance(asked, DeviceFile):
            return any(self.paths is None or is_in(name, self.paths) for name in asked.names_in(self))
        if asked.data_sets:
            return asked.data_sets <= self.data_sets
        if self.data_sets or self.directory != asked.directory:
            return False
        return self.paths is None or all(is_in(path, self.paths) for path in asked.paths or ("",))

    def is_part_of(self, asked: "Asked") -> bool:
        """Return True when this has single paths of a directory that is asked for as a whole."""
        if isinstance(asked, DeviceFile):
            return False
        return bool(asked.directory) and asked.paths is None and self.directory == asked.directory

    def __str__(self) -> str:
        if self.data_sets:
            return f"data sets {readable(', '.join(sorted(self.data_sets)))}"
        if not self.directory:
            return "what a command collected"
        part = f"'{readable(self.directory)}'"
        return part if self.paths is None else f"single paths of {part}"

    def to_text(self) -> str:
        """Return the source for the journal; empty when it is too long for that."""
        paths = None if self.paths is None else sorted(self.paths)
        text = json.dumps([self.directory, sorted(self.data_sets), paths])
        return text if len(text) <= MAX_TEXT_BYTES else ""

    @classmethod
    def from_text(cls, text: str) -> "ArchiveSource":
        """Read what `to_text` wrote. Raises ValueError for any other text."""
        value: Any = json.loads(text)
        directory, data_sets, paths = value
        return cls(directory, frozenset(data_sets), None if paths is None else frozenset(paths))


class Extent(NamedTuple):
    """The amount of an archive's content."""

    files: int
    size_bytes: int | None
    """None for an archive of an earlier release of the agent."""


def is_emptied(extent: Extent | None, before: Extent | None, percent: int) -> bool:
    """Return True for an archive with less than `percent` of the files or bytes of the one before."""
    if extent is None or before is None:
        return False
    return any(
        now is not None and once is not None and 100 * now < percent * once
        for now, once in zip(extent, before, strict=True)
    )


def last_full(
    archives: Iterable[Archive], extent_of: Callable[[Archive], Extent | None], percent: int
) -> Archive | None:
    """Return the last archive that is not emptied, from all in order."""
    full: Archive | None = None
    for archive in archives:
        if full is None or not is_emptied(extent_of(archive), extent_of(full), percent):
            full = archive
    return full


@dataclass(frozen=True, slots=True)
class DeviceFile:
    """A file by its absolute path on the device, whatever archive it is in."""

    path: str

    def names_in(self, source: ArchiveSource) -> list[str]:
        """Return the names that the file would have in archives of this source."""
        if not source.directory:
            return [f"{data_set}{self.path}" for data_set in source.data_sets]
        above = f"{source.directory.rstrip('/')}/"
        return [self.path.removeprefix(above)] if self.path.startswith(above) else []

    def __str__(self) -> str:
        return f"'{readable(self.path)}'"


Asked = ArchiveSource | DeviceFile
"""The thing that somebody looks for among archives."""


@dataclass(frozen=True, slots=True)
class KnownArchive:
    """An archive as the journal or its manifest describes it."""

    source: ArchiveSource | None = None
    """None when it is not known."""
    extent: Extent | None = None
    number: int = 0
    """Counts up from archive to archive; 0 for one that the journal did not see being made."""


UNKNOWN = KnownArchive()


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The results of verifications: True for an archive that was sound, False for one that was damaged.

    An archive of several stores has a copy at each, and one of them may be damaged.
    """

    copies: Mapping[tuple[str, str], bool] = field(default_factory=dict)
    """By the name and the place of the archive; a snapshot's name says what it holds, and has no place."""

    def of(self, name: str, place: str) -> bool | None:
        """Return the result for the copy at this place; None for one that nobody has verified."""
        return self.copies.get((name, place), self.copies.get((name, "")))
