"""The comparison of the unpacked tree with the target, from the top down: it gives the steps of a commit."""

import itertools
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from agent.base.errors import AccessForbidden, IoError, disk_errors
from agent.base.identity import identity
from agent.base.sqlite_files import database_of, is_database
from agent.base.text import readable
from agent.restore.directories import Tree, entries_in, is_directory, names_in
from agent.restore.disk import exists, link, open_up
from agent.restore.metadata import SET_ID, Meta, meta_of, xattrs_of
from agent.restore.mounts import refuse_mounts
from agent.restore.plan import Act, Step
from agent.restore.workspace import Workspace

OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Goes = Callable[[str, bool], bool]
"""(path, is it a directory) -> True when a name that only the target has is removed."""


class OwnNames:
    """The agent's own directories in a target, which no restore changes: storage, archives, other restores.

    Otherwise a command could overwrite the journal.
    """

    def __init__(self, target: Tree, names: Iterable[str]) -> None:
        """`names` are relative to the target. Where case is ignored, `have` knows them by their inodes."""
        self._names = frozenset(names)
        found = [status for name in self._names if (status := target.stat(name))]
        self._identities = {identity(status) for status in found if is_directory(status)}

    def have(self, path: str, status: os.stat_result | None) -> bool:
        if path in self._names:
            return True
        return status is not None and is_directory(status) and identity(status) in self._identities

    def refuse(self, path: str, status: os.stat_result | None = None) -> None:
        """Raise AccessForbidden when `path` is one of them, or holds one."""
        if self.have(path, status) or any(name.startswith(f"{path}/") for name in self._names):
            raise AccessForbidden(
                f"'{readable(path)}' in the target is or holds the agent's own storage, archives or work,"
                " which no restore changes"
            )


class Comparison:
    """Goes through the directories that both sides have; a tree that only one side has is one step.

    Does not change the target. Keeps every file that will be replaced as a hard link in undo/, and opens up
    the unpacked directories that both sides have; their modes are in the plan from then on.
    """

    def __init__(
        self,
        workspace: Workspace,
        *,
        goes: Goes | None,
        special_bits: bool,
        in_pieces: bool = False,
        mounts: Sequence[str],
        own: Collection[str] = (),
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """`goes`: None when all names stay that only the target has. `own`: names of the agent's directories.
        `in_pieces`: a directory that goes is emptied, file by file, instead of moved. `check` is called for
        every name, and ends the comparison by raising."""
        self._in_pieces, self._check = in_pieces, check
        self._workspace, self._goes, self._special_bits = workspace, goes, special_bits
        self._mounts, self._own = mounts, OwnNames(workspace.target, own)
        self._device = os.fstat(workspace.root_fd).st_dev
        self._numbers = itertools.count()
        self._shared: list[tuple[str, Meta | None]] = []

    def steps(self) -> Iterator[Step]:
        """Yield the steps, a directory's own before those of its entries.

        Raises NoSpace, IoError when the disk fails or a mount point is in the way, and AccessForbidden when
        one of the agent's own directories is.
        """
        self._shared = [("", self._workspace.root_meta())]
        while self._shared:
            path, new_meta = self._shared.pop()
            with disk_errors(f"cannot compare '{readable(path) or '.'}' with the target"):
                yield from self._directory(path, new_meta)

    def _directory(self, path: str, new_meta: Meta | None) -> Iterator[Step]:
        yield self._keep(path, new_meta)
        names = self._files_over_files(path)
        for name in sorted(names):
            self._check()
            yield from self._entry(f"{path}/{name}" if path else name, names[name])
        yield from self._surplus(path, names)

    def _keep(self, path: str, new_meta: Meta | None) -> Step:
        target_fd = self._workspace.target.directory(path)
        status = os.fstat(target_fd)
        if status.st_dev != self._device:
            raise IoError(
                f"'{readable(path)}' in the target is on another file system that is not mounted there,"
                " as a subvolume: mount it there, or choose other names with 'restore.paths'"
            )
        old = meta_of(status)._replace(xattrs=xattrs_of(target_fd))
        if new_meta and path:
            new_meta = new_meta._replace(xattrs=xattrs_of(self._workspace.new_directory(path)))
        if new_meta and not self._special_bits:
            # A restore that may not set these bits does not clear them either, as on a shared directory.
            new_meta = new_meta._replace(mode=(new_meta.mode or 0) & ~SET_ID | status.st_mode & SET_ID)
        return Step(next(self._numbers), Act.KEEP, path, old, new_meta)

    def _files_over_files(self, path: str) -> dict[str, bool]:
        """Return the unpacked names in a directory; True where both sides have a file or link of that name.

        Listing tells this without a system call for each name.
        """
        with entries_in(self._workspace.new_directory(path)) as new:
            is_file = {entry.name: not entry.is_dir(follow_symlinks=False) for entry in new}
        both = dict.fromkeys(is_file, False)
        with entries_in(self._workspace.target.directory(path)) as old:
            for entry in old:
                self._check()
                if is_file.get(entry.name) and not entry.is_dir(follow_symlinks=False):
                    both[entry.name] = True
        return both

    def _entry(self, path: str, file_over_file: bool) -> Iterator[Step]:
        """Yield the steps of one unpacked name; none for a directory that both sides have."""
        if file_over_file:
            refuse_mounts(path, whole=True, mounts=self._mounts)
            self._own.refuse(path)
            yield self._over_file(path, new_is_directory=False)
            return
        # Also for a name that is not listed: where case is ignored, another spelling may be in the way.
        old = self._workspace.target.stat(path)
        destination = self._workspace.new_place(path)
        new = os.stat(destination[1], dir_fd=destination[0], follow_symlinks=False)
        both = is_directory(new) and is_directory(old) and not self._own.have(path, old)
        if both:
            refuse_mounts(path, whole=False, mounts=self._mounts)
            self._shared.append((path, meta_of(new)))
            open_up(destination)
            return
        refuse_mounts(path, whole=True, mounts=self._mounts)
        self._own.refuse(path, old)
        if old is None:
            yield Step(next(self._numbers), Act.ADD, path)
        elif not is_directory(old):
            yield self._over_file(path, is_directory(new))
        elif self._in_pieces:
            yield from self._cleared(path)
            yield Step(next(self._numbers), Act.ADD, path, meta_of(old))
        else:
            yield Step(next(self._numbers), Act.SWAP, path, meta_of(old))

    def _cleared(self, path: str) -> Iterator[Step]:
        """Yield the steps that remove a directory file by file, then the directories, inner ones first."""
        waiting, found = [path], list[str]()
        while waiting:
            directory = waiting.pop()
            found.append(directory)
            yield self._keep(directory, None)
            with entries_in(self._workspace.target.directory(directory)) as entries:
                is_inner = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
            waiting += [f"{directory}/{name}" for name in is_inner if is_inner[name]]
            for name in sorted(name for name in is_inner if not is_inner[name]):
                yield Step(next(self._numbers), Act.REMOVE, f"{directory}/{name}")
        for directory in reversed(found):
            yield Step(next(self._numbers), Act.CLEAR, directory)

    def _over_file(self, path: str, new_is_directory: bool) -> Step:
        number = next(self._numbers)
        try:
            can_replace = not new_is_directory and self._saved(path, number)
        except FileNotFoundError:
            if self._workspace.target.stat(path) is not None:
                raise
            return Step(number, Act.ADD, path)  # a program has removed the old file meanwhile
        return Step(number, Act.REPLACE if can_replace else Act.SWAP, path)

    def _saved(self, path: str, number: int) -> bool:
        """Hard-link the old file to undo/; return False where that is impossible: VFAT, another's file."""
        return link(self._workspace.target.parent(path), self._workspace.undo_place(number))

    def _surplus(self, parent: str, wanted: Collection[str]) -> Iterator[Step]:
        new_fd = self._workspace.new_directory(parent)
        fd = self._workspace.target.directory(parent)
        there = set(names_in(fd))
        beside = {name for name in there.difference(wanted) if is_beside_database(name, wanted, new_fd)}
        # Where case is ignored, `Name` is found as `name`, and is no surplus. VFAT ignores it everywhere, and
        # its inode numbers mean nothing; ext4 does in marked directories.
        folded = {_inode(name, fd) for name in wanted if name not in there} - {None}
        for name in sorted(there.difference(wanted) if self._goes else beside):
            self._check()
            if exists((new_fd, name)) or (folded and _inode(name, fd) in folded):
                continue
            path = f"{parent}/{name}" if parent else name
            old = self._workspace.target.stat(path)
            if old is None:  # a program has removed it meanwhile
                continue
            goes = name in beside or (self._goes and self._goes(path, is_directory(old)))
            if self._own.have(path, old) or not goes:
                continue
            refuse_mounts(path, whole=True, mounts=self._mounts)
            self._own.refuse(path)
            if self._in_pieces and is_directory(old):
                yield from self._cleared(path)
            else:
                meta = meta_of(old) if is_directory(old) else None
                yield Step(next(self._numbers), Act.REMOVE, path, meta)


def is_beside_database(name: str, new_names: Collection[str], new_fd: int) -> bool:
    """Return True for a name of the target that belongs to a database which the new directory has without it.

    It has to go, also where other names stay: the log of the old database would spoil the new one.
    """
    database = database_of(name)
    if not database or database not in new_names:
        return False
    try:
        fd = os.open(database, OPEN, dir_fd=new_fd)
    except OSError:
        return False
    try:
        return is_database(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)


def _inode(name: str, dir_fd: int) -> int | None:
    try:
        return os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_ino
    except FileNotFoundError:
        return None
