"""Which files go into a backup: the walk over the tree, and the report of what it found.

The walk holds on to directories by descriptor and opens each name relative to the one it was listed in,
never following a link: whatever somebody renames or swaps meanwhile, it cannot be led out of the tree or
made to hang on a FIFO. Nothing that it meets is fatal; what cannot be saved is counted with a reason.
"""

import os
import stat
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.base.identity import Identity, identity, identity_of, open_resolved
from agent.base.patterns import Excluded
from agent.base.roots import Root
from agent.formats.base import DIR, FILE, LINK, MAX_NAME_BYTES, Entry
from agent.formats.walk_report import WITHHELD, Report, Top, reason_of
from agent.save.attributes import extended_attributes

_OPEN_LEVELS = 32  # directories that are kept open on the way down; deeper ones are reopened on the way up
_LINKED_FILES = 65_536  # inodes with several names that are remembered; later ones become single files

_LEASE_PAUSE_S, _LEASE_PATIENCE_S, _MOST_LEASE_PATIENCE_S = 0.02, 5.0, 60.0
"""How often a file under a lease is tried, how long, and how long all of them together."""

_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DIR_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC

_SPECIAL = {stat.S_IFSOCK: "socket", stat.S_IFIFO: "FIFO", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}


@dataclass(frozen=True, slots=True)
class Part:
    """A root, and what of it is passed over; paths are relative to its directory."""

    root: Root
    excluded: Excluded | None = None
    """By wish: only counted."""
    unexportable: Excluded | None = None
    """By a rule of the device: told, as it would be lost with the device."""


def walk(
    part: Part, report: Report, own: Iterable[Path], check: Callable[[], None]
) -> Generator[Entry, None, None]:
    """Yield what the part holds, each directory before what is in it, by the names of an archive.

    Directories on the way to something come too, and the root's own where its prefix gives it a name.
    Counted only: what is excluded, and the agent's `own` directories, by whatever name they are reached.
    Left out and told to `report`: what is unexportable, no file, directory or link, cannot be read, and
    names of the root that are not there. `check` is called for each name and ends the walk by raising.

    Raises OSError when the root's directory cannot be opened: ENOTDIR when a component of its path, which was
    resolved before, has become a link. Memory grows with the directories that
    wait in one directory, not with files.
    """
    identities = frozenset(identity for path in own if (identity := identity_of(path)))
    yield from _Walk(part, report, identities, check).run()


@dataclass(slots=True)
class _Level:
    """A directory on the way from the root to where the walk is."""

    name: str
    fd: int
    identity: Identity
    waiting: list[str] = field(default_factory=list)


class _Walk:
    """Depth first, with its own stack: a tree may be deeper than Python's, or than descriptors last."""

    def __init__(
        self, part: Part, report: Report, own: frozenset[Identity], check: Callable[[], None]
    ) -> None:
        self._root, self._report, self._own, self._check = part.root, report, own, check
        self._excluded, self._unexportable = part.excluded, part.unexportable
        self._levels: list[_Level] = []
        self._base = f"{part.root.prefix}/" if part.root.prefix else ""
        self._prefix = ""
        """The directory where the walk is, relative to the root's, with a slash at the end."""
        self._missing = set(part.root.names or ())
        self._linked: dict[Identity, str] = {}
        self._patience_s = _MOST_LEASE_PATIENCE_S

    def run(self) -> Iterator[Entry]:
        fd = open_resolved(self._root.directory)
        try:
            status = os.fstat(fd)
            self._descend("", fd, status)
            xattrs = self._attributes(fd, "", None)
            if self._base:
                yield Entry(self._root.prefix, DIR, status, fd, b"", xattrs)
            else:
                self._report.top = Top(status, xattrs)
            yield from self._scan()
            while self._levels:
                if self._levels[-1].waiting:
                    yield from self._directory(self._levels[-1].waiting.pop())
                else:
                    self._ascend()
            for name in sorted(self._missing):
                self._skip(name, "missing")
        finally:
            for level in self._levels:
                _close(level.fd)

    def _directory(self, name: str) -> Iterator[Entry]:
        opened = self._open(name, _DIR_FLAGS)
        if opened is None:
            return
        fd, status = opened
        path = self._prefix + name
        if identity(status) in self._own:
            os.close(fd)
            self._report.pass_over_own(self._root.archived(path))
            return
        self._descend(name, fd, status)
        yield Entry(self._base + path, DIR, status, fd, b"", self._attributes(fd, path, None))
        yield from self._scan()

    def _scan(self) -> Iterator[Entry]:
        """Yield what is no directory at once; directories wait, so that one listing is open at a time."""
        level = self._levels[-1]
        try:
            with os.scandir(level.fd) as listing:
                for item in listing:
                    self._check()
                    try:
                        yield from self._item(level, item)
                    except OSError as error:
                        # Some file systems do not list what kind a name is, and asking can fail.
                        self._skip(self._prefix + item.name, reason_of(error))
        except OSError as error:
            self._skip(self._prefix.rstrip("/"), reason_of(error))

    def _item(self, level: _Level, item: "os.DirEntry[str]") -> Iterator[Entry]:
        if self._root.names is not None and not self._is_wanted(item):
            return
        if self._excluded and self._matches(self._excluded, item):
            self._report.excluded += 1
        elif self._unexportable and self._matches(self._unexportable, item):
            self._skip(self._prefix + item.name, WITHHELD)
        elif self._is_too_long(item.name):
            pass
        elif item.is_file(follow_symlinks=False):
            yield from self._file(item.name)
        elif item.is_dir(follow_symlinks=False):
            level.waiting.append(item.name)
        else:
            yield from self._other(item)

    def _skip(self, name: str, reason: str) -> None:
        self._report.skip(self._root.archived(name) or ".", reason)

    def _is_wanted(self, item: "os.DirEntry[str]") -> bool:
        path = self._prefix + item.name
        self._missing.discard(path)
        return self._root.holds(path) or (item.is_dir(follow_symlinks=False) and self._root.leads_to(path))

    def _matches(self, rule: Excluded, item: "os.DirEntry[str]") -> bool:
        slash = "/" if item.is_dir(follow_symlinks=False) else ""
        return rule(f"{self._prefix}{item.name}{slash}")

    def _is_too_long(self, name: str) -> bool:
        # No letter has more than four bytes: most names need no closer look.
        if len(self._base) + len(self._prefix) + len(name) <= MAX_NAME_BYTES // 4:
            return False
        if len(os.fsencode(self._base + self._prefix + name)) <= MAX_NAME_BYTES:
            return False
        self._skip(self._prefix + name, "name too long")
        return True

    def _file(self, name: str) -> Iterator[Entry]:
        opened = self._open(name, _FILE_FLAGS)
        if opened is None:
            return
        fd, status = opened
        path = self._prefix + name
        try:
            if stat.S_ISREG(status.st_mode):
                archived = self._base + path
                first = self._first_name(status, archived) if status.st_nlink > 1 else None
                yield Entry(archived, FILE, status, fd, b"", self._attributes(fd, path, first), first)
            else:
                self._skip(path, "changed while read")
        finally:
            os.close(fd)

    def _open(self, name: str, flags: int) -> tuple[int, os.stat_result] | None:
        """Open a name of the directory where the walk is; None when that was reported to have failed."""
        fd = -1
        try:
            fd = self._patiently_opened(name, flags)
            return fd, os.fstat(fd)
        except OSError as error:
            _close(fd)
            self._skip(self._prefix + name, reason_of(error))
            return None

    def _patiently_opened(self, name: str, flags: int) -> int:
        """Wait a little for a file under another process's lease, which the first try asks it to give up.

        A file server holds such leases for its clients (fcntl(2), F_SETLEASE).
        """
        waited_s = 0.0
        while True:
            try:
                return os.open(name, flags, dir_fd=self._levels[-1].fd)
            except BlockingIOError:
                if waited_s >= _LEASE_PATIENCE_S or self._patience_s <= 0:
                    raise
            self._check()
            time.sleep(_LEASE_PAUSE_S)
            waited_s += _LEASE_PAUSE_S
            self._patience_s -= _LEASE_PAUSE_S

    def _other(self, item: "os.DirEntry[str]") -> Iterator[Entry]:
        path = self._prefix + item.name
        try:
            status = item.stat(follow_symlinks=False)
            if not stat.S_ISLNK(status.st_mode):
                self._skip(path, _SPECIAL.get(stat.S_IFMT(status.st_mode), "changed while read"))
                return
            target = os.fsencode(os.readlink(item.name, dir_fd=self._levels[-1].fd))
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
        found = extended_attributes(fd, self._base + path, hard_link_to)
        if found is None:
            self._skip(path, "extended attributes too large")
        return found or {}

    def _descend(self, name: str, fd: int, status: os.stat_result) -> None:
        self._levels.append(_Level(name, fd, identity(status)))
        self._prefix = f"{self._prefix}{name}/" if name else ""
        if len(self._levels) > _OPEN_LEVELS:
            shallowest = self._levels[-_OPEN_LEVELS - 1]
            _close(shallowest.fd)
            shallowest.fd = -1

    def _ascend(self) -> None:
        left = self._levels.pop()
        self._prefix = self._prefix[: -len(left.name) - 1]
        if self._levels and self._levels[-1].fd < 0:
            self._reopen(self._levels[-1], left.fd)
        _close(left.fd)

    def _reopen(self, level: _Level, child_fd: int) -> None:
        level.fd = _parent(child_fd, level.identity)
        if level.fd < 0:
            for name in level.waiting:
                self._skip(self._prefix + name, "changed while read")
            level.waiting.clear()


def _parent(fd: int, expected: Identity) -> int:
    """The directory above `fd`, open, or -1: somebody may have moved what we are in elsewhere."""
    if fd < 0:
        return -1
    try:
        parent = os.open("..", _DIR_FLAGS, dir_fd=fd)
    except OSError:
        return -1
    if identity(os.fstat(parent)) == expected:
        return parent
    os.close(parent)
    return -1


def _close(fd: int) -> None:
    if fd >= 0:
        os.close(fd)
