"""Directories reached by descriptors, so that no symbolic link leads a restore out of its target.

A path that is resolved twice may mean two places. A restore reaches everything from one descriptor, component
by component, with O_NOFOLLOW: a symbolic link is an error, not a write outside the target.
"""

import os
import stat
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from agent.base.durable import closing_fd
from agent.base.errors import ArchiveError, disk_errors
from agent.base.identity import FileIdentity, identity, open_parent
from agent.base.text import readable
from providers.directory import open_resolved

DirectoryEntry = tuple[int, str]
"""The descriptor of a directory and a name in it: what the *at system calls take."""

_OPEN_LEVELS = 32
_NEVER_A_NAME = frozenset(("", ".", ".."))

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MARK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def open_directory(name: str, dir_fd: int) -> int:
    """Return a descriptor of the directory `name` in `dir_fd`. Raises OSError (ENOTDIR for a link)."""
    return os.open(name, _DIRECTORY, dir_fd=dir_fd)


def mark(destination: DirectoryEntry) -> int:
    """Return an O_PATH descriptor of an entry: it needs no permission and follows no link."""
    return os.open(destination[1], _MARK, dir_fd=destination[0])


def names_in(fd: int) -> list[str]:
    """Return the names that are in an open directory now. Raises OSError.

    The rewind is needed: on btrfs an open descriptor lists what was there when it was opened.
    """
    os.lseek(fd, 0, os.SEEK_SET)
    return os.listdir(fd)


def entries_in(fd: int) -> AbstractContextManager[Iterator["os.DirEntry[str]"]]:
    """Return os.scandir of an open directory as it is now. Raises OSError."""
    os.lseek(fd, 0, os.SEEK_SET)
    return os.scandir(fd)


def components(path: str) -> list[str]:
    """Return the parts of a relative name. The reader has checked it; this is a second check."""
    names = path.split("/") if path else []
    if not _NEVER_A_NAME.isdisjoint(names):
        raise ArchiveError(f"the archive names '{readable(path)}', which is not a plain relative name")
    return names


class Tree:
    """A directory and everything below it, named by relative paths with slashes; "" is the directory itself.

    Keeps descriptors along the latest path, because the next path is most often its neighbour; of the deepest
    levels only, so that deep trees do not use up descriptors.
    """

    def __init__(self, root_fd: int) -> None:
        """`root_fd` stays the caller's to close."""
        self._root_fd = root_fd
        self._path = ""
        self._ends: list[int] = []
        """Length of the latest path up to each level."""
        self._fds: list[int] = []
        self._closed: list[FileIdentity] = []
        """Levels whose descriptors were closed, the topmost first."""

    def directory(self, path: str, made: Callable[[str], None] | None = None) -> int:
        """Return the descriptor of a directory, valid until the next call with another path.

        With `made`, missing directories are made (mode 0700), and `made` is called with each. Raises OSError:
        ENOENT, or ENOTDIR where a component is a symbolic link or a file.
        """
        if path != self._path:
            self._leave(self._shared_levels(path))
            for name in components(path[len(self._path) :].removeprefix("/") if self._path else path):
                self._enter(name, made)
        return self._fds[-1] if self._fds else self._root_fd

    def parent(self, path: str, made: Callable[[str], None] | None = None) -> DirectoryEntry:
        """Return the descriptor of the directory above `path`, and the last name. Raises as `directory`."""
        parent, _, name = path.rpartition("/")
        return self.directory(parent, made), name

    def stat(self, path: str) -> os.stat_result | None:
        """Return the status of `path` itself; None when nothing is there. Raises other OSErrors."""
        try:
            fd, name = self.parent(path)
            return os.stat(name, dir_fd=fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def close(self) -> None:
        self._drop(0)

    def _enter(self, name: str, made: Callable[[str], None] | None) -> None:
        here = self._fds[-1] if self._fds else self._root_fd
        path = f"{self._path}/{name}" if self._path else name
        try:
            fd = open_directory(name, here)
        except FileNotFoundError:
            if made is None:
                raise
            os.mkdir(name, 0o700, dir_fd=here)
            made(path)
            fd = open_directory(name, here)
        self._fds.append(fd)
        self._path = path
        self._ends.append(len(path))
        if len(self._fds) - len(self._closed) > _OPEN_LEVELS:
            topmost = self._fds[len(self._closed)]
            self._closed.append(identity(os.fstat(topmost)))
            os.close(topmost)

    def _shared_levels(self, path: str) -> int:
        """Return how many levels this path shares with the latest one."""
        shared = _common_letters(self._path, path)
        levels = bisect_right(self._ends, shared)
        if levels and self._ends[levels - 1] == shared < len(path) and path[shared] != "/":
            levels -= 1  # "a/b" and "a/bc"
        return levels

    def _leave(self, levels: int) -> None:
        """Go back to a level; to the root where that is nearer, or the level cannot be reopened."""
        if levels > len(self._closed):
            self._drop(levels)
        elif len(self._closed) - levels < levels:
            self._climb(levels)
        else:
            self._drop(0)

    def _drop(self, levels: int) -> None:
        while len(self._fds) > levels:
            fd = self._fds.pop()
            if len(self._fds) >= len(self._closed):
                os.close(fd)
        del self._closed[levels:], self._ends[levels:]
        self._path = self._path[: self._ends[-1]] if levels else ""

    def _climb(self, levels: int) -> None:
        """Reopen a level through ".." of the levels below it, at a cost that does not grow with the depth."""
        self._drop(len(self._closed) + 1)
        while len(self._fds) > levels:
            parent = open_parent(self._fds[-1], self._closed[-1])
            if parent < 0:
                self._drop(0)
                return
            os.close(self._fds.pop())
            self._fds[-1] = parent
            self._closed.pop()
        self._drop(levels)


def _common_letters(one: str, other: str) -> int:
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def is_directory(status: os.stat_result | None) -> bool:
    return status is not None and stat.S_ISDIR(status.st_mode)


def missing(path: Path) -> list[Path]:
    """Return the directories that `make_target` would make, outermost first."""
    absent = [destination for destination in (path, *path.parents) if not os.path.lexists(destination)]
    return absent[::-1]


def make_target(path: Path) -> list[Path]:
    """Make the resolved directory `path` and its missing parents; return those that were made.

    Parents get mode 0755; `path` is private until the restore is complete. Follows no link that has appeared
    since. Raises IoError or NoSpace, and leaves nothing then.
    """
    made: list[Path] = []
    with disk_errors(f"cannot make the directory '{readable(str(path))}'"):
        try:
            for destination in missing(path):
                _make(destination, 0o700 if destination == path else 0o755)
                made.append(destination)
        except OSError:
            remove_made(made)
            raise
    return made


def _make(path: Path, mode: int) -> None:
    with closing_fd(open_resolved(path.parent)) as parent_fd:
        os.mkdir(path.name, mode, dir_fd=parent_fd)
        os.fsync(parent_fd)


def remove_made(paths: Iterable[Path]) -> None:
    """Remove the directories that are empty, innermost first, durably, following no link; others stay."""
    for path in sorted(paths, key=lambda path: len(path.parts), reverse=True):
        with suppress(OSError), closing_fd(open_resolved(path.parent)) as parent_fd:
            os.rmdir(path.name, dir_fd=parent_fd)
            os.fsync(parent_fd)
