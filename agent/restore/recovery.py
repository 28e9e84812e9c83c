"""Recovers targets after a crash: the marks in their working directories tell old from new."""

from collections.abc import Callable, Sequence
from contextlib import closing
from enum import Enum
from pathlib import Path

from agent.base.errors import IoError, JobError, disk_errors
from agent.base.mounts import where_mounted
from agent.base.text import readable
from agent.restore.commit import take_back
from agent.restore.directories import names_in
from agent.restore.memory import WorkingRoot, work_id
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


def _found(left: WorkingRoot, job_id: str) -> Workspace | None:
    """Return the working directory of the job in this root, as `Workspace.find`."""
    return Workspace.find(left.directory, work_id(job_id, left.number), left.inode)


def _has(mark: str, left: WorkingRoot, job_id: str) -> bool:
    with disk_errors(f"cannot look into '{readable(str(left.directory))}' after a restore"):
        workspace = _found(left, job_id)
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
            if workspace := _found(each, job_id):
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
        decided, workspace = _found(first, job_id), _found(left, job_id)
        assert decided, "it was there a moment ago"
        with closing(decided):
            decided.sync()  # the mark has to last before old data goes
        if workspace is None:
            _check_mounted(left)
            return
        with closing(workspace):
            workspace.remove()
