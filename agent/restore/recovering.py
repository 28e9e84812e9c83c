"""After a crash: what a restore left in a target decides whether the target becomes old again or is new."""

from contextlib import closing
from enum import Enum
from pathlib import Path

from agent.base.errors import disk_errors
from agent.base.text import readable
from agent.restore.commit import take_back
from agent.restore.directories import names_in
from agent.restore.workspace import DONE, TRIAL, Workspace


class Recovery(Enum):
    """What `recover` found, and made of it."""

    NOTHING = "nothing"
    """No trace: the job changed nothing, or its outcome was complete and cleaned up."""
    ROLLED_BACK = "rolled back"
    """The target is what it was before the restore."""
    COMMITTED = "committed"
    """The target is what the restore wanted."""


def recover(target: Path, job_id: str, *, failed: bool = False) -> Recovery:
    """Bring a target to entirely old or entirely new after a crash at any point of a restore.

    One that `failed`, and was told so, goes back to old also when only the last sync of its commit was
    refused. May itself be cut off at any point and called again. Raises IoError when the disk fails.
    """
    with disk_errors(f"cannot recover '{readable(str(target))}' after a restore"):
        workspace = Workspace.find(target, job_id)
        if workspace is None:
            return Recovery.NOTHING
        with closing(workspace):
            return _recover(workspace, failed)


def on_trial(target: Path, job_id: str) -> bool:
    """Whether a crash came in the middle of a trial, which may go on. Changes nothing. Raises IoError."""
    return _has(TRIAL, target, job_id)


def committed(target: Path, job_id: str) -> bool:
    """Whether a crash came after the commit. Changes nothing, so that the outcome can be recorded first.

    `recover` then removes the working directory, and with it what this is decided by. Raises IoError.
    """
    return _has(DONE, target, job_id)


def _has(mark: str, target: Path, job_id: str) -> bool:
    with disk_errors(f"cannot look into '{readable(str(target))}' after a restore"):
        workspace = Workspace.find(target, job_id)
        if workspace is None:
            return False
        with closing(workspace):
            return workspace.has(mark)


def _recover(workspace: Workspace, failed: bool) -> Recovery:
    if workspace.has(DONE) and not failed:
        workspace.sync()  # `done` has to last before undo/ goes
        found = Recovery.COMMITTED
    elif not names_in(workspace.work_fd):
        found = Recovery.NOTHING
    else:
        take_back(workspace)
        found = Recovery.ROLLED_BACK
    workspace.remove()
    return found
