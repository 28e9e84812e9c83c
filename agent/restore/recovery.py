"""Recovers targets after a crash: the marks in their working directories tell old from new."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from agent.base.errors import IoError, JobError, disk_errors
from agent.base.mounts import where_mounted
from agent.base.text import readable
from agent.restore.commit import take_back
from agent.restore.directories import names_in
from agent.restore.workspace import DONE, TRIAL, Workspace


class RecoveryOutcome(Enum):
    """The result of `recover`."""

    NOTHING = "nothing"
    """There is no trace: the job changed nothing, or has cleaned up."""
    ROLLED_BACK = "rolled back"
    """The target is what it was before the restore."""
    COMMITTED = "committed"
    """The target is what the restore wanted."""


NOT_TAKEN_BACK = (
    "the restore cannot be reverted: somebody removed its working directory, which held the old data;"
    " the new data is in place"
)


def recover(
    target: Path,
    job_id: str,
    *,
    inode: int | None = None,
    failed: bool = False,
    taken_back: Callable[[], object] = lambda: None,
) -> RecoveryOutcome:
    """Bring a target to entirely old or entirely new after a crash at any point of a restore.

    A restore that was reported as `failed` goes back to old, also when only the last sync of its commit
    failed.
    `taken_back` is called when everything is old, before the working directory goes. A crash in here does no
    harm: call it again. Raises IoError when the disk fails.
    """
    with disk_errors(f"cannot recover '{readable(str(target))}' after a restore"):
        workspace = Workspace.find(target, job_id, inode)
        if workspace is None:
            return RecoveryOutcome.NOTHING
        with closing(workspace):
            return _recover(workspace, failed, taken_back)


def _has(mark: str, left: "WorkingRoot", job_id: str) -> bool:
    with disk_errors(f"cannot look into '{readable(str(left.directory))}' after a restore"):
        workspace = left.find(job_id)
        if workspace is None:
            return False
        with closing(workspace):
            return workspace.has(mark)


def _recover(workspace: Workspace, failed: bool, taken_back: Callable[[], object]) -> RecoveryOutcome:
    if workspace.has(DONE) and not failed:
        workspace.sync()  # `done` has to last before undo/ goes
        found = RecoveryOutcome.COMMITTED
    elif not names_in(workspace.work_fd):
        found = RecoveryOutcome.NOTHING
    else:
        take_back(workspace)
        taken_back()
        found = RecoveryOutcome.ROLLED_BACK
    workspace.remove()
    return found


def work_id(job_id: str, number: int) -> str:
    """Return the id of the work in a root: two roots may be in one directory."""
    return f"{job_id}-{number}" if number else job_id


class WorkingRoot(NamedTuple):
    """A root in which a restore may have left its working directory."""

    number: int
    directory: Path
    mount: str
    inode: int | None = None
    """The working directory's; None before it was made, and where inode numbers do not last."""

    def find(self, job_id: str) -> Workspace | None:
        """Return the working directory of the job in this root, as `Workspace.find`."""
        return Workspace.find(self.directory, work_id(job_id, self.number), self.inode)


def working_text(directories: Mapping[int, Path]) -> str:
    """Return the journal's text for a restore that begins: its roots by number, the deciding one first."""
    working = [(number, os.fspath(path), where_mounted(path)) for number, path in directories.items()]
    return json.dumps(working)


def with_inodes(text: str, inodes: Iterable[int | None]) -> str:
    """Return the text of `working_text` with the inode numbers of the working directories."""
    working = zip(json.loads(text), inodes, strict=True)
    return json.dumps([each if inode is None else [*each[:3], inode] for each, inode in working])


def without_inodes(text: str) -> str:
    """Return what `working_text` wrote, also from what `with_inodes` has made of it."""
    return json.dumps([each[:3] for each in json.loads(text)])


def read_working(text: str | None) -> list[WorkingRoot]:
    """Parse the text of `working_text` or `with_inodes`; return no roots for None."""
    return [WorkingRoot(number, Path(path), *known) for number, path, *known in json.loads(text or "[]")]


def recover_roots(
    roots: Sequence[WorkingRoot],
    job_id: str,
    *,
    failed: bool = False,
    taken_back: Callable[[], object] = lambda: None,
) -> None:
    """Bring all roots to old or to new, as the mark in the first one says; see `recover`.

    Raises IoError when one is missing or its disk fails; the others are recovered all the same.
    """
    if not roots:
        return
    first, *others = roots
    new = not failed and is_committed(roots, job_id)
    if not new:
        # Before the others: no crash may find the first one marked, and another one old.
        _take_back(first, job_id, taken_back)
    problems = list[JobError]()
    for each in others:
        try:
            _forget(each, first, job_id) if new else _take_back(each, job_id)
        except JobError as error:
            problems.append(error)
    if problems:
        raise problems[0]
    if new:
        recover(first.directory, work_id(job_id, first.number), inode=first.inode)


def is_gone(roots: Sequence[WorkingRoot], job_id: str) -> bool:
    """Return True when a working directory is not there. Raises IoError when its file system is not."""
    for each in roots:
        if not _has(".", each, job_id):
            _check_mounted(each)
            return True
    return False


def forget_roots(roots: Sequence[WorkingRoot], job_id: str) -> None:
    """Remove the working directories that are there; the targets stay as they are. Raises IoError."""
    for each in roots:
        with disk_errors("cannot remove what a restore left"):
            if workspace := each.find(job_id):
                with closing(workspace):
                    workspace.remove()


def is_committed(roots: Sequence[WorkingRoot], job_id: str) -> bool:
    """Return True when the mark in the first root says that all are new.

    Changes nothing: `recover_roots`, which removes the mark, comes after the outcome is in the journal.
    Raises IoError when the first root is missing or its disk fails.
    """
    if not roots:
        return False
    if _has(DONE, roots[0], job_id):
        return True
    _check_mounted(roots[0])
    return False


def is_unconfirmed(roots: Sequence[WorkingRoot], job_id: str) -> bool:
    """Return True when a crash interrupted the wait for a confirmation. Raises IoError."""
    return bool(roots) and _has(TRIAL, roots[0], job_id)


def _take_back(left: WorkingRoot, job_id: str, taken_back: Callable[[], object] = lambda: None) -> None:
    name = work_id(job_id, left.number)
    outcome = recover(left.directory, name, inode=left.inode, failed=True, taken_back=taken_back)
    if outcome is RecoveryOutcome.NOTHING:
        _check_mounted(left)


def _check_mounted(left: WorkingRoot) -> None:
    """Raise IoError when nothing was found because the root's file system is not mounted."""
    if left.mount != where_mounted(left.directory):
        shown = readable(str(left.directory))
        raise IoError(f"cannot recover '{shown}': nothing is mounted at '{left.mount}'")


def _forget(left: WorkingRoot, first: WorkingRoot, job_id: str) -> None:
    """Remove the working directory of a root that is new, as the mark in the first one says."""
    with disk_errors("cannot remove what a restore left"):
        decided, workspace = first.find(job_id), left.find(job_id)
        assert decided, "it was there a moment ago"
        with closing(decided):
            decided.sync()  # the mark has to last before old data goes
        if workspace is None:
            _check_mounted(left)
            return
        with closing(workspace):
            workspace.remove()
