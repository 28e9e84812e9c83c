"""The private directory inside a target in which a restore works: `.edge-backup-<job>`.

    new/   what was unpacked        undo/   the old files, one per number of the plan
    plan   a commit is under way: the target has to go back    done   the commit is complete
    trial  the plan of a complete commit that waits for its confirmation
    proof  the facts of the restore under a MAC, for a start without the journal
    root   the new metadata of the target itself; absent when it does not change

It is inside the target because the directory above may be unwritable or on another file system, from which
nothing can be renamed. After a crash its content tells the state of the target:

    nothing     nothing happened, or everything was cleaned up
    `plan`      somewhere between old and new, and goes back to old
    `trial`     new, and may still go back; the journal knows until when
    `done`      new; only the working directory is left to remove
    otherwise   old, untouched or completely rolled back
"""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from agent.base.errors import IoError
from agent.base.patterns import Excluded, anchored, excluding
from agent.base.text import readable
from agent.restore import disk
from agent.restore.directories import DirectoryEntry, Tree, open_directory
from agent.restore.memory import work_name
from agent.restore.metadata import Meta, set_mtime
from providers.directory import open_resolved

NEW, UNDO, PLAN, TRIAL, DONE, ROOT, EXCLUDED = "new", "undo", "plan", "trial", "done", "root", "excluded"
PROOF = "proof"


class Workspace:
    """Descriptors of a target and of a job's working directory in it. Methods raise OSError."""

    def __init__(self, root_fd: int, name: str, work_fd: int) -> None:
        """Takes over `root_fd`, the target, and `work_fd`, the directory `name` in it."""
        self.root_fd, self.name, self.work_fd = root_fd, name, work_fd
        self.target = Tree(root_fd)
        self._new, self._undo = Tree(self.work_fd), Tree(self.work_fd)

    @classmethod
    def create(cls, target: Path, job_id: str) -> "Workspace":
        """Make the working directory. Raises IoError when the job has one already."""
        name = work_name(job_id)
        root_fd = open_resolved(target)
        try:
            return cls(root_fd, name, _make(root_fd, name))
        except BaseException:
            os.close(root_fd)
            raise

    @classmethod
    def find(cls, target: Path, job_id: str, inode: int | None = None) -> "Workspace | None":
        """Return the one that this job left; None when there is none, or no target.

        Raises IoError when another user made it, or when it has another inode number.
        """
        try:
            root_fd = open_resolved(target)
        except FileNotFoundError:
            return None
        try:
            return cls(root_fd, work_name(job_id), _open_ours(root_fd, work_name(job_id), inode))
        except BaseException as error:
            os.close(root_fd)
            if isinstance(error, FileNotFoundError):
                return None
            raise

    def new_directory(self, path: str) -> int:
        """Return the unpacked directory `path`, as `Tree.directory`."""
        return self._new.directory(f"{NEW}/{path}" if path else NEW)

    def new_place(self, path: str) -> DirectoryEntry:
        """Return the place of the unpacked `path`, as `Tree.parent`."""
        return self._new.parent(f"{NEW}/{path}" if path else NEW)

    def undo_place(self, number: int) -> DirectoryEntry:
        return self._undo.parent(f"{UNDO}/{number:010}")

    def keep_root_meta(self, meta: Meta) -> None:
        """Keep the new metadata of the target itself until the commit."""
        self._keep(ROOT, meta.to_value())

    def root_meta(self) -> Meta | None:
        """Return the metadata that was kept; None when the target's does not change."""
        value = self._kept(ROOT)
        return None if value is None else Meta.from_value(value)

    def keep_excluded(self, lists: list[list[str]], anchor: str | None) -> None:
        """Keep the patterns that the backup passed over until the commit."""
        self._keep(EXCLUDED, [lists, anchor])

    def excluded(self) -> Excluded | None:
        """Return the rule of the patterns that were kept, for paths of the target; None when none were."""
        value = self._kept(EXCLUDED)
        if value is None:
            return None
        lists, anchor = value
        return excluding(*lists) if anchor is None else anchored(excluding(*lists), Path(anchor))

    def _keep(self, name: str, value: object) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(name, flags, 0o600, dir_fd=self.work_fd), "w", encoding="ascii") as file:
            json.dump(value, file)

    def _kept(self, name: str) -> Any:
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.work_fd)
        except FileNotFoundError:
            return None
        with open(fd, encoding="ascii") as file:
            return json.load(file)

    def has(self, name: str) -> bool:
        return disk.exists((self.work_fd, name))

    def holds(self, *names: str) -> bool:
        """Return True when any of these files is there."""
        return any(map(self.has, names))

    def rename(self, name: str, new_name: str) -> None:
        """Rename one of its files, durably."""
        os.rename(name, new_name, src_dir_fd=self.work_fd, dst_dir_fd=self.work_fd)
        os.fsync(self.work_fd)

    def sync(self) -> None:
        """Make its renames durable."""
        os.fsync(self.work_fd)

    def remove(self, check: Callable[[], None] = lambda: None) -> None:
        """Remove it with its content, durably; the target keeps its time. `check` may end that by raising.

        `done` goes last: without it, an old file that is left in undo/ would be put back.
        """
        disk.empty(self.work_fd, DONE, PROOF, check=check)
        disk.empty(self.work_fd, DONE)
        disk.empty(self.work_fd)
        before = os.fstat(self.root_fd)
        os.rmdir(self.name, dir_fd=self.root_fd)
        set_mtime(self.root_fd, before.st_mtime_ns)
        # The journal forgets it next: a power cut must not bring it back.
        os.fsync(self.root_fd)

    def close(self) -> None:
        """Close all descriptors, the target's too."""
        for tree in (self.target, self._new, self._undo):
            tree.close()
        os.close(self.work_fd)
        os.close(self.root_fd)


def _make(root_fd: int, name: str) -> int:
    """Make the working directory with new/ and undo/; return its descriptor."""
    before = os.fstat(root_fd)
    try:
        os.mkdir(name, 0o700, dir_fd=root_fd)
    except FileExistsError as error:
        raise IoError(f"'{readable(name)}' is left from a restore: recover that one first") from error
    try:
        set_mtime(root_fd, before.st_mtime_ns)
        work_fd = _open_ours(root_fd, name)
        try:
            for part in (NEW, UNDO):
                os.mkdir(part, 0o700, dir_fd=work_fd)
        except BaseException:
            with suppress(OSError):
                disk.empty(work_fd)
            os.close(work_fd)
            raise
    except BaseException:
        with suppress(OSError):
            os.rmdir(name, dir_fd=root_fd)
            set_mtime(root_fd, before.st_mtime_ns)
        raise
    return work_fd


def _open_ours(root_fd: int, name: str, inode: int | None = None) -> int:
    """Return a descriptor of the working directory. Raises IoError when another directory has its name.

    Others who may write in the target can put a directory with a plan of theirs there. They cannot make one
    that this process owns, but they can rename one that is in the target: its inode number differs.
    """
    work_fd = open_directory(name, root_fd)
    try:
        if inode is not None and os.fstat(work_fd).st_ino != inode:
            raise IoError(
                f"'{readable(name)}' in the target is not the directory that the restore made there:"
                " somebody put another one in its place; find out whose it is, move it away"
            )
        if os.fstat(work_fd).st_uid != os.geteuid() and not _is_ours(root_fd, work_fd):
            raise IoError(
                f"'{readable(name)}' in the target belongs to somebody else: find out whose it is, remove it"
            )
    except BaseException:
        os.close(work_fd)
        raise
    return work_fd


def _is_ours(root_fd: int, work_fd: int) -> bool:
    """Return True when the file system gives all new files to another user: VFAT, NFS with root squashed."""
    before = os.fstat(root_fd)
    with TemporaryFile(dir=disk.by_descriptor(root_fd)) as probe:
        ours = os.fstat(probe.fileno()).st_uid
    set_mtime(root_fd, before.st_mtime_ns)
    return os.fstat(work_fd).st_uid == ours
