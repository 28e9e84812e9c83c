"""The numbers of a commit, for a preview: both trees are compared, and the target does not change."""

import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import astuple, dataclass, field, replace
from enum import Enum
from operator import add
from typing import BinaryIO

from agent.base.errors import disk_errors
from agent.base.text import readable
from agent.restore.compare import OPEN, Goes, OwnNames, is_beside_database
from agent.restore.directories import DirectoryEntry, is_directory, names_in
from agent.restore.disk import close_down, is_closed, open_up
from agent.restore.metadata import xattrs_of
from agent.restore.workspace import Workspace
from agent.transfer.cancel import CancelToken

NAMED = 20
"""The number of removed names that a difference keeps."""
_CHUNK_BYTES = 1 << 20


@dataclass(slots=True)
class Difference:
    """Numbers of files, links and directories.

    A directory that both sides have counts only as changed, and only where its attributes change.
    """

    added: int = 0
    changed: int = 0
    """Entries with another kind, content, link target, mode, owner or attribute; times do not count."""
    removed: int = 0
    kept: int = 0
    """Entries that are alike on both sides, or only in the target and stay."""
    size_bytes: int = 0
    """Content of files that are added or changed."""
    lost: list[str] = field(default_factory=list)
    """The first removed names."""

    def __add__(self, other: "Difference") -> "Difference":
        both = Difference(*map(add, astuple(self), astuple(other)))
        return replace(both, lost=both.lost[:NAMED])


class _Side(Enum):
    """The side that has a directory; a directory of the target alone stays or goes."""

    BOTH, NEW, STAYS, GOES = range(4)


class Differences:
    """Goes through both trees, without recursion. What vanishes from the target meanwhile is not there."""

    def __init__(
        self, workspace: Workspace, *, goes: Goes | None, own: Collection[str], token: CancelToken
    ) -> None:
        """`goes` and `own` as for `Comparison`."""
        self._workspace, self._goes, self._token = workspace, goes, token
        self._old, self._own = workspace.target, OwnNames(workspace.target, own)
        self._waiting: list[tuple[str, _Side]] = []
        self._opened: list[tuple[str, int]] = []
        self._found = Difference()

    def count(self) -> Difference:
        """Return the difference. Raises OSError, IoError with the name of a directory, and Cancelled."""
        self._waiting = [("", _Side.BOTH)]
        try:
            while self._waiting:
                path, side = self._waiting.pop()
                with disk_errors(f"cannot compare '{readable(path) or '.'}' with the target"):
                    self._directory(path, side)
        finally:
            # `commit` takes the modes of directories from the disk; children come first.
            for path, mode in reversed(self._opened):
                close_down(self._workspace.new_place(path), mode)
        return self._found

    def _directory(self, path: str, side: _Side) -> None:
        new = set(self._new_names(path)) if side in (_Side.BOTH, _Side.NEW) else set()
        old = set(self._old_names(path)) if side is not _Side.NEW else set()
        if side is _Side.BOTH and path and is_directory(self._old.stat(path)):
            new_xattrs = xattrs_of(self._workspace.new_directory(path))
            self._found.changed += new_xattrs != xattrs_of(self._old.directory(path))
        for name in sorted(new | old):
            self._token.check()
            its_path = f"{path}/{name}" if path else name
            if name not in new:
                goes = self._is_surplus(its_path, new) if side is _Side.BOTH else side is _Side.GOES
                self._only_old(its_path, goes)
            elif name not in old:
                self._only_new(its_path)
            else:
                self._both(its_path)

    def _is_surplus(self, path: str, new: set[str]) -> bool:
        parent, _, name = path.rpartition("/")
        if is_beside_database(name, new, self._workspace.new_directory(parent)):
            return True
        if self._goes is None:
            return False
        return self._goes(path, is_directory(self._old.stat(path)))

    def _new_names(self, path: str) -> Iterator[str]:
        mode = open_up(self._workspace.new_place(path))
        if mode is not None and is_closed(mode):
            self._opened.append((path, mode))
        yield from names_in(self._workspace.new_directory(path))

    def _old_names(self, path: str) -> Iterator[str]:
        try:
            names = names_in(self._old.directory(path))
        except (FileNotFoundError, NotADirectoryError):
            return
        for name in names:
            if path or name != self._workspace.name:
                yield name

    def _only_new(self, path: str) -> None:
        status = _status(self._workspace.new_place(path))
        self._found.added += 1
        self._count_bytes(status)
        if stat.S_ISDIR(status.st_mode):
            self._waiting.append((path, _Side.NEW))

    def _only_old(self, path: str, goes: bool) -> None:
        status = self._old.stat(path)
        if status is None:
            return
        if self._own.have(path, status):
            self._found.kept += 1
            return
        if goes:
            self._found.removed += 1
            if len(self._found.lost) < NAMED:
                self._found.lost.append(readable(path))
        else:
            self._found.kept += 1
        if stat.S_ISDIR(status.st_mode):
            self._look_below(path, goes)

    def _look_below(self, path: str, goes: bool) -> None:
        """Look into a directory that stays or moves as a whole, unless nobody can list it."""
        try:
            self._old.directory(path)
        except (PermissionError, FileNotFoundError, NotADirectoryError):
            return
        self._waiting.append((path, _Side.GOES if goes else _Side.STAYS))

    def _both(self, path: str) -> None:
        old_status = self._old.stat(path)
        if old_status is None:
            self._only_new(path)
            return
        new, old = self._workspace.new_place(path), self._old.parent(path)
        new_status = _status(new)
        both_directories = stat.S_ISDIR(new_status.st_mode) and stat.S_ISDIR(old_status.st_mode)
        if both_directories and not self._own.have(path, old_status):
            self._waiting.append((path, _Side.BOTH))
        elif _alike(new_status, old_status) and self._same_content(new, old, new_status):
            self._found.kept += 1
        else:
            self._found.changed += 1
            self._count_bytes(new_status)
            if stat.S_ISDIR(new_status.st_mode):
                self._waiting.append((path, _Side.NEW))
            if stat.S_ISDIR(old_status.st_mode):
                self._look_below(path, goes=True)

    def _same_content(self, new: DirectoryEntry, old: DirectoryEntry, status: os.stat_result) -> bool:
        try:
            if stat.S_ISLNK(status.st_mode):
                return os.readlink(new[1], dir_fd=new[0]) == os.readlink(old[1], dir_fd=old[0])
            with _opened(new) as new_file, _opened(old) as old_file:
                if xattrs_of(new_file.fileno()) != xattrs_of(old_file.fileno()):
                    return False
                while chunk := new_file.read(_CHUNK_BYTES):
                    self._token.check()
                    if chunk != old_file.read(_CHUNK_BYTES):
                        return False
        except (PermissionError, FileNotFoundError):
            return False
        return True

    def _count_bytes(self, status: os.stat_result) -> None:
        if stat.S_ISREG(status.st_mode):
            self._found.size_bytes += status.st_size


def _status(destination: DirectoryEntry) -> os.stat_result:
    return os.stat(destination[1], dir_fd=destination[0], follow_symlinks=False)


def _opened(destination: DirectoryEntry) -> BinaryIO:
    return open(os.open(destination[1], OPEN, dir_fd=destination[0]), "rb")


def _alike(new: os.stat_result, old: os.stat_result) -> bool:
    """Return True when both may have one content, and have one kind, mode and owner."""
    if not (stat.S_ISREG(new.st_mode) or stat.S_ISLNK(new.st_mode)):
        return False
    return (new.st_mode, new.st_uid, new.st_gid, new.st_size) == (
        old.st_mode,
        old.st_uid,
        old.st_gid,
        old.st_size,
    )
