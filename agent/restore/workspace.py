"""The private directory inside a target in which a restore works: `.edge-backup-<job>`.

    new/   what was unpacked        undo/   the old files, one per number of the plan
    plan   a commit is under way: the target has to go back    done   the commit is complete
    trial  the plan of a commit that is complete, and may be taken back
    proof  what this is, under a MAC: for a start without the journal
    root   what the target itself will be like; not there where it stays as it is

It is inside the target because a neighbour would often be unwritable or on another file system, where
nothing could be renamed. What it holds decides what a crash left behind:

    nothing     nothing happened, or all that happened was cleaned up
    `plan`      the target is somewhere between old and new, and goes back to old
    `trial`     the target is new, and may still go back; the journal knows until when
    `done`      the target is new; the rest only needs to be removed
    otherwise   the target is old, untouched or completely rolled back
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

from agent.base.errors import IoError
from agent.base.patterns import Excluded, anchored, excluding
from agent.base.text import readable
from agent.formats.names import PRIVATE_PREFIX
from agent.restore import disk
from agent.restore.directories import DirectoryEntry, Tree, open_directory
from agent.restore.metadata import Meta, set_mtime
from providers.directory import open_resolved

NEW, UNDO, PLAN, TRIAL, DONE, ROOT, EXCLUDED = "new", "undo", "plan", "trial", "done", "root", "excluded"
PROOF = "proof"


class Workspace:
    """Descriptors of a target and of one job's working directory in it. Every method raises OSError."""

    def __init__(self, root_fd: int, name: str, work_fd: int) -> None:
        """Takes over `root_fd`, the target, and `work_fd`, the directory `name` in it."""
        self.root_fd, self.name, self.work_fd = root_fd, name, work_fd
        self.target = Tree(root_fd)
        self._new, self._undo = Tree(self.work_fd), Tree(self.work_fd)

    @classmethod
    def create(cls, target: Path, job_id: str) -> "Workspace":
        """Make it, empty but for new/ and undo/. Raises IoError when the job has one already."""
        name = _name(job_id)
        root_fd = open_resolved(target)
        try:
            return cls(root_fd, name, _make(root_fd, name))
        except BaseException:
            os.close(root_fd)
            raise

    @classmethod
    def find(cls, target: Path, job_id: str, inode: int | None = None) -> "Workspace | None":
        """The one that this job left; None when there is none, or no target.

        Raises IoError when somebody else made it, or when it is not the directory with this inode number.
        """
        try:
            root_fd = open_resolved(target)
        except FileNotFoundError:
            return None
        try:
            return cls(root_fd, _name(job_id), _open_ours(root_fd, _name(job_id), inode))
        except FileNotFoundError:
            os.close(root_fd)
            return None
        except BaseException:
            os.close(root_fd)
            raise

    def new_directory(self, path: str) -> int:
        """Return the unpacked directory `path`, as `Tree.directory`."""
        return self._new.directory(f"{NEW}/{path}" if path else NEW)

    def new_place(self, path: str) -> DirectoryEntry:
        """Return the place of the unpacked `path`, as `Tree.parent`."""
        return self._new.parent(f"{NEW}/{path}")

    def undo_place(self, number: int) -> DirectoryEntry:
        return self._undo.parent(f"{UNDO}/{number:010}")

    def keep_root_meta(self, meta: Meta) -> None:
        """Keep what the target itself will be like, until the commit."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(ROOT, flags, 0o600, dir_fd=self.work_fd), "w", encoding="ascii") as file:
            json.dump(meta.to_value(), file)

    def root_meta(self) -> Meta | None:
        """Return what was kept; None when the target stays as it is."""
        try:
            fd = os.open(ROOT, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.work_fd)
        except FileNotFoundError:
            return None
        with open(fd, encoding="ascii") as file:
            return Meta.from_value(json.load(file))

    def keep_excluded(self, lists: list[list[str]], anchor: str | None) -> None:
        """Keep the patterns of what the backup passed over, until the commit; see `excluded`."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(EXCLUDED, flags, 0o600, dir_fd=self.work_fd), "w", encoding="ascii") as file:
            json.dump([lists, anchor], file)

    def excluded(self) -> Excluded | None:
        """Return what tells whether the backup passed over a path of the target; None when it did not."""
        try:
            fd = os.open(EXCLUDED, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.work_fd)
        except FileNotFoundError:
            return None
        with open(fd, encoding="ascii") as file:
            lists, anchor = json.load(file)
        return excluding(*lists) if anchor is None else anchored(excluding(*lists), Path(anchor))

    def has(self, name: str) -> bool:
        return disk.exists((self.work_fd, name))

    def holds(self, *names: str) -> bool:
        """Return True when any of these is there."""
        return any(map(self.has, names))

    def rename(self, name: str, new_name: str) -> None:
        """Rename one of its files, durably: the fsync of a directory makes its renames last."""
        os.rename(name, new_name, src_dir_fd=self.work_fd, dst_dir_fd=self.work_fd)
        os.fsync(self.work_fd)

    def sync(self) -> None:
        """Make its mark last."""
        os.fsync(self.work_fd)

    def remove(self) -> None:
        """Remove it with all it holds, durably; the target keeps its time.

        `done` goes last: as long as an old file is left in undo/, it must be clear that it is not wanted.
        """
        disk.empty(self.work_fd, DONE, PROOF)
        disk.empty(self.work_fd, DONE)
        disk.empty(self.work_fd)
        before = os.fstat(self.root_fd)
        os.rmdir(self.name, dir_fd=self.root_fd)
        set_mtime(self.root_fd, before.st_mtime_ns)
        # When it is gone, nobody remembers that it was there: a power cut must not bring it back.
        os.fsync(self.root_fd)

    def close(self) -> None:
        """Give all descriptors back, the target's too."""
        for tree in (self.target, self._new, self._undo):
            tree.close()
        os.close(self.work_fd)
        os.close(self.root_fd)


def _make(root_fd: int, name: str) -> int:
    """Make the working directory; its descriptor."""
    before = os.fstat(root_fd)
    try:
        os.mkdir(name, 0o700, dir_fd=root_fd)
    except FileExistsError as error:
        raise IoError(f"'{readable(name)}' is left from a restore: recover that one first") from error
    try:
        set_mtime(root_fd, before.st_mtime_ns)
        work_fd = _open_ours(root_fd, name)
        try:
            _make_parts(work_fd)
        except BaseException:
            os.close(work_fd)
            raise
    except BaseException:
        with suppress(OSError):
            os.rmdir(name, dir_fd=root_fd)
            set_mtime(root_fd, before.st_mtime_ns)
        raise
    return work_fd


def _make_parts(work_fd: int) -> None:
    made: list[str] = []
    try:
        for part in (NEW, UNDO):
            os.mkdir(part, 0o700, dir_fd=work_fd)
            made.append(part)
    except BaseException:
        for part in made:
            with suppress(OSError):
                os.rmdir(part, dir_fd=work_fd)
        raise


def _open_ours(root_fd: int, name: str, inode: int | None = None) -> int:
    """A descriptor of the working directory. Raises IoError when it is not this process's own.

    Whoever may write in the target can put another directory in its place, with a plan of their own in it.
    They cannot make one that belongs to us, but they can give its name to one that belongs to us and is in
    the target anyway: then the inode number is another.
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
    """Some file systems give all that we make to another user: VFAT as mounted, NFS with root squashed."""
    before = os.fstat(root_fd)
    with TemporaryFile(dir=disk.by_descriptor(root_fd)) as probe:
        ours = os.fstat(probe.fileno()).st_uid
    set_mtime(root_fd, before.st_mtime_ns)
    return os.fstat(work_fd).st_uid == ours


def work_directory_of(target: Path, job_id: str) -> Path:
    """Return where the restore `job_id` works in a target."""
    return target / _name(job_id)


def _name(job_id: str) -> str:
    if not job_id or "/" in job_id or "\0" in job_id or len(os.fsencode(job_id)) > 200:
        raise ValueError(f"not a job id that can be part of a file name: {job_id!r}")
    return PRIVATE_PREFIX + job_id
