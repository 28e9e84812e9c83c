"""The walk over a tree finds the files of a backup and reports what it skips.

It holds directories by descriptor and opens each name relative to the directory that listed it, following no
link: renaming or swapping entries meanwhile cannot lead it out of the tree or make it hang on a FIFO. No
entry is fatal: one that cannot be saved is counted with a reason.
"""

import os
import stat
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from agent.base.identity import FileIdentity, identity, identity_of
from agent.base.mounts import kernel_mounts_below, mounts_below
from agent.base.patterns import Excluded, PatternLists
from agent.base.roots import Root
from agent.base.sqlite_files import database_of, is_database
from agent.formats.attributes import cost_of
from agent.formats.entries import DIR, FILE, LINK, MAX_ATTRIBUTES_BYTES, MAX_NAME_BYTES, Entry
from agent.formats.walk_report import KERNEL_S, OWN, WITHHELD, Report, Top, reason_of
from agent.save.databases import MAX_BESIDE, Copies
from agent.save.levels import DIR_FLAGS, FILE_FLAGS, Level, Levels, close
from agent.save.mapped_files import MOST_DIRTY_NS, let_changes_show
from providers.directory import open_resolved

_LINKED_FILES = 65_536  # inodes with several names that are remembered; later ones become single files

_NONE: Mapping[str, bytes] = MappingProxyType({})
_SPECIAL = {stat.S_IFSOCK: "socket", stat.S_IFIFO: "FIFO", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}


@dataclass(frozen=True, slots=True)
class WalkRoot:
    """A root, and the rules for entries that are passed over; paths are relative to its directory."""

    root: Root
    excluded: Excluded | None = None
    """Entries that are only counted."""
    unexportable: Excluded | None = None
    """Entries that are reported as skipped, because they would be lost with the device."""
    patterns: PatternLists = ()
    """The patterns of `excluded`."""


def walk(
    top: WalkRoot,
    report: Report,
    own: Iterable[Path],
    check: Callable[[], None],
    copies: Copies | None = None,
) -> Generator[Entry, None, None]:
    """Yield the entries of a root with the names of an archive, each directory before its content.

    Directories on the way to the root's names are entries, too, and the root's own where it has a prefix.
    Only counted: excluded entries, the agent's `own` directories, whatever their names are, and the content
    of the kernel's own file systems. Skipped and told to `report`: unexportable entries, entries that are no
    file, directory or link or cannot be read, and missing names of the root. `check` is called for each name
    and ends the walk by raising.
    With `copies`, the entry of an SQLite database has a copy, and the files beside it have no entries.

    Close it when you stop early: it holds descriptors. Raises OSError when the root's directory cannot be
    opened: ENOTDIR when a component of its resolved path has become a link. Memory grows with the number of
    directories in one directory, not with files.
    """
    identities = frozenset(identity for path in own if (identity := identity_of(path)))
    yield from _Walk(top, report, identities, check, copies).run()


class _Walk:
    """Depth first, with a stack of its own."""

    def __init__(
        self,
        top: WalkRoot,
        report: Report,
        own: frozenset[FileIdentity],
        check: Callable[[], None],
        copies: Copies | None,
    ) -> None:
        self._root, self._report, self._own, self._check = top.root, report, own, check
        self._copies = copies
        self._excluded, self._unexportable = top.excluded, top.unexportable
        self._levels = Levels(check)
        self._base = f"{top.root.prefix}/" if top.root.prefix else ""
        self._missing = set(top.root.names or ())
        self._linked: dict[FileIdentity, str] = {}
        self._mounts = frozenset(mounts_below(top.root.directory))
        self._kernel_mounts = kernel_mounts_below(top.root.directory)

    def run(self) -> Iterator[Entry]:
        fd = open_resolved(self._root.directory)
        try:
            status = os.fstat(fd)
            level = self._levels.descend("", fd, status)
            xattrs = self._attributes(fd, "", None)
            if self._base:
                yield Entry(self._root.prefix, DIR, status, fd, b"", xattrs)
            else:
                self._report.top = Top(status, xattrs)
            yield from self._scan(level)
            while here := self._levels.here:
                if here.waiting:
                    yield from self._directory(here.waiting.pop())
                else:
                    self._ascend()
            for name in sorted(self._missing):
                self._skip(name, "missing")
        finally:
            self._levels.close()

    def _directory(self, name: str) -> Iterator[Entry]:
        opened = self._open(name, DIR_FLAGS)
        if opened is None:
            return
        fd, status = opened
        path = self._levels.prefix + name
        if identity(status) in self._own:
            os.close(fd)
            self._report.pass_over(self._root.archived(path), OWN)
            return
        if path in self._kernel_mounts:
            yield from self._kernel_mount(fd, path, status)
            return
        if path in self._mounts:
            self._report.enter_mount(self._root.archived(path))
        level = self._levels.descend(name, fd, status)
        yield Entry(self._base + path, DIR, status, fd, b"", self._attributes(fd, path, None))
        yield from self._scan(level)

    def _kernel_mount(self, fd: int, path: str, status: os.stat_result) -> Iterator[Entry]:
        """Yield the mount point alone: /proc/kcore is as large as the address space."""
        self._report.pass_over(self._root.archived(path), KERNEL_S)
        try:
            yield Entry(self._base + path, DIR, status, fd)
        finally:
            os.close(fd)

    def _scan(self, level: Level) -> Iterator[Entry]:
        """Yield files and links at once; directories wait, so that one listing is open at a time.

        The files beside databases come last: with a copy of the database they are saved already.
        """
        try:
            with os.scandir(level.fd) as listing:
                for item in listing:
                    self._check()
                    try:
                        yield from self._item(level, item)
                    except OSError as error:
                        # Some file systems list names without their kinds, and asking for one can fail.
                        self._skip(self._levels.prefix + item.name, reason_of(error))
            for name in level.beside:
                if database_of(name) not in level.copied:
                    yield from self._file(name)
        except OSError as error:
            self._skip(self._levels.prefix.rstrip("/"), reason_of(error))

    def _item(self, level: Level, item: "os.DirEntry[str]") -> Iterator[Entry]:
        if self._root.names is not None and not self._is_wanted(item):
            return
        if self._excluded and self._matches(self._excluded, item):
            self._report.excluded += 1
        elif self._unexportable and self._matches(self._unexportable, item):
            self._skip(self._levels.prefix + item.name, WITHHELD)
        elif self._is_too_long(item.name):
            pass
        elif item.is_file(follow_symlinks=False):
            if self._copies and database_of(item.name) and len(level.beside) < MAX_BESIDE:
                level.beside.append(item.name)
            else:
                yield from self._file(item.name)
        elif item.is_dir(follow_symlinks=False):
            level.waiting.append(item.name)
        else:
            yield from self._other(level, item)

    def _skip(self, name: str, reason: str) -> None:
        self._report.skip(self._root.archived(name) or ".", reason)

    def _is_wanted(self, item: "os.DirEntry[str]") -> bool:
        path = self._levels.prefix + item.name
        self._missing.discard(path)
        return self._root.holds(path) or (item.is_dir(follow_symlinks=False) and self._root.leads_to(path))

    def _matches(self, rule: Excluded, item: "os.DirEntry[str]") -> bool:
        slash = "/" if item.is_dir(follow_symlinks=False) else ""
        return rule(f"{self._levels.prefix}{item.name}{slash}")

    def _is_too_long(self, name: str) -> bool:
        # A letter has at most four bytes: so most names need no encoding.
        if len(self._base) + len(self._levels.prefix) + len(name) <= MAX_NAME_BYTES // 4:
            return False
        if len(os.fsencode(self._base + self._levels.prefix + name)) <= MAX_NAME_BYTES:
            return False
        self._skip(self._levels.prefix + name, "name too long")
        return True

    def _file(self, name: str) -> Iterator[Entry]:
        opened = self._open(name, FILE_FLAGS)
        if opened is None:
            return
        fd, status = opened
        path = self._levels.prefix + name
        try:
            if stat.S_ISREG(status.st_mode):
                if path in self._mounts:
                    self._report.enter_mount(self._root.archived(path))
                seen_ns = time.time_ns()
                if seen_ns - status.st_ctime_ns < MOST_DIRTY_NS:
                    let_changes_show(fd)
                archived = self._base + path
                first = self._first_name(status, archived) if status.st_nlink > 1 else None
                entry = Entry(
                    archived, FILE, status, fd, b"", self._attributes(fd, path, first), first, seen_ns
                )
                if self._copies and is_database(fd, status.st_size):
                    yield from self._database(self._copies, entry)
                else:
                    yield entry
            else:
                self._skip(path, "changed while read")
        finally:
            os.close(fd)

    def _database(self, copies: Copies, entry: Entry) -> Iterator[Entry]:
        level = self._levels.here
        assert level
        copy, reason = copies.copied(entry, level.fd)
        if copy is None:
            yield entry
        else:
            level.copied.add(os.path.basename(entry.name))
            try:
                yield copy
            finally:
                os.close(copy.fd)
        if reason:
            self._report.skip(entry.name, reason)

    def _open(self, name: str, flags: int) -> tuple[int, os.stat_result] | None:
        """Open a name of the present directory; return None for one that was skipped."""
        fd = -1
        try:
            fd = self._levels.open(name, flags)
            return fd, os.fstat(fd)
        except OSError as error:
            close(fd)
            self._skip(self._levels.prefix + name, reason_of(error))
            return None

    def _other(self, level: Level, item: "os.DirEntry[str]") -> Iterator[Entry]:
        path = self._levels.prefix + item.name
        try:
            status = item.stat(follow_symlinks=False)
            if not stat.S_ISLNK(status.st_mode):
                self._skip(path, _SPECIAL.get(stat.S_IFMT(status.st_mode), "changed while read"))
                return
            target = os.fsencode(os.readlink(item.name, dir_fd=level.fd))
        except OSError as error:
            self._skip(path, reason_of(error))
            return
        yield Entry(self._base + path, LINK, status, target=target)

    def _first_name(self, status: os.stat_result, path: str) -> str | None:
        key = identity(status)
        first = self._linked.get(key)
        if first is None and len(self._linked) < _LINKED_FILES:
            self._linked[key] = path
        return first

    def _attributes(self, fd: int, path: str, hard_link_to: str | None) -> Mapping[str, bytes]:
        found = _extended_attributes(fd, self._base + path, hard_link_to)
        if found is None or (found and not self._report.attributes.take(cost_of(found))):
            self._skip(path, "extended attributes too large")
            return _NONE
        return found

    def _ascend(self) -> None:
        for name in self._levels.ascend():
            self._skip(self._levels.prefix + name, "changed while read")


def _extended_attributes(fd: int, *names_of_entry: str | None) -> Mapping[str, bytes] | None:
    """Return the attributes of an open file or directory; None when they have no room beside the names.

    Attributes that this process may not see are skipped.
    """
    try:
        names = os.listxattr(fd)
    except OSError:
        return _NONE  # ENOTSUP: the file system has none
    if not names:
        return _NONE
    found, size_bytes = {}, sum(len(os.fsencode(name)) for name in names_of_entry if name)
    for name in names:
        try:
            found[name] = os.getxattr(fd, name)
        except OSError:
            continue  # removed meanwhile, or (trusted.*) not for us to see
        size_bytes += len(os.fsencode(name)) + len(found[name]) + 4
    return found if size_bytes <= MAX_ATTRIBUTES_BYTES else None
