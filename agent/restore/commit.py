"""Carries out a plan, and undoes it from any point at which that stopped."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

from agent.base.errors import disk_errors
from agent.base.text import readable
from agent.restore import disk
from agent.restore.compare import Comparison
from agent.restore.directories import DirectoryEntry, is_directory
from agent.restore.metadata import set_meta
from agent.restore.plan import Act, Step, backwards, forwards, to_line
from agent.restore.workspace import DONE, PLAN, TRIAL, Workspace
from agent.transfer.cancel import CancelToken

_PLAN_BEING_WRITTEN = "plan.tmp"


def commit(
    workspace: Workspace,
    comparison: Comparison,
    token: CancelToken,
    confirm: Callable[[], None],
    *,
    mark: str = DONE,
    prove: Callable[[str], None] = lambda _plan: None,
) -> None:
    """Bring the unpacked tree into the target, call `confirm`, and rename the plan to `mark`.

    DONE ends the commit. With TRIAL `take_back` is still possible; with PLAN another root decides. `prove` is
    called with the plan's SHA-256 before the plan counts. Raises OSError, IoError, Cancelled and what
    `confirm` raises; the caller has to call `take_back` then.
    """
    prove(_write_plan(workspace, comparison, token))
    # From here on a crash means: back to old. So the plan, undo/ and every new byte are on the disk before
    # the first change.
    disk.sync_file_system(workspace.root_fd)
    workspace.rename(_PLAN_BEING_WRITTEN, PLAN)
    with _plan(workspace) as plan:
        _apply_all(workspace, plan, token)
        # Renames have changed the times of directories, and read-only ones were opened up. Children come
        # first, because their parents may end up closed to this process.
        for step in backwards(plan, Act.KEEP):
            token.check()
            if step.new:
                set_meta(workspace.target.directory(step.path), step.new)
            elif not step.path and step.old and step.old.mode is not None and disk.is_closed(step.old.mode):
                disk.close_down((workspace.root_fd, "."), step.old.mode)  # the archive has no entry for it
    disk.sync_file_system(workspace.root_fd)
    # Until `confirm` returns a crash means: back to old. So does a disk that refuses to take it back now.
    confirm()
    if mark != PLAN:
        workspace.rename(PLAN, mark)


def take_back(workspace: Workspace, check: Callable[[], None] = lambda: None) -> None:
    """Make the target what it was, after a failed `commit` or in a trial.

    `check` is called for each step and may end it by raising. After that, or an OSError, call it again.
    """
    for mark in (DONE, TRIAL):
        if workspace.has(mark):
            workspace.rename(mark, PLAN)  # of `done`, only the fsync failed
    if workspace.has(PLAN):
        _roll_back(workspace, check)


def _roll_back(workspace: Workspace, check: Callable[[], None]) -> None:
    """Undo a plan, last step first. Each step looks at the disk, so a crash in here does no harm.

    The plan is removed when everything is back on the disk: without it the working directory is rubbish.
    """
    with _plan(workspace) as plan:
        for step in forwards(plan, Act.KEEP):
            check()
            _stand_up(workspace, step)
            _open_up(workspace, step)
        for step in backwards(plan):
            check()
            _undo(workspace, step)
    disk.sync_file_system(workspace.root_fd)
    os.unlink(PLAN, dir_fd=workspace.work_fd)
    os.fsync(workspace.work_fd)


def _write_plan(workspace: Workspace, comparison: Comparison, token: CancelToken) -> str:
    """Write the plan; return its SHA-256."""
    digest = hashlib.sha256()
    fd = os.open(_PLAN_BEING_WRITTEN, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=workspace.work_fd)
    with open(fd, "wb") as plan:
        for step in comparison.steps():
            token.check()
            line = to_line(step)
            digest.update(line)
            plan.write(line)
        plan.flush()
        os.fsync(fd)
    return digest.hexdigest()


def _plan(workspace: Workspace) -> BinaryIO:
    return open(os.open(PLAN, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=workspace.work_fd), "rb")


def _apply_all(workspace: Workspace, plan: BinaryIO, token: CancelToken) -> None:
    path = ""
    try:
        for step in forwards(plan):
            token.check()
            path = step.path
            _apply(workspace, step)
    except OSError:
        with disk_errors(f"cannot put '{readable(path)}' in place"):
            raise


def _apply(workspace: Workspace, step: Step) -> None:
    if step.act is Act.KEEP:
        _open_up(workspace, step)
        return
    destination = workspace.target.parent(step.path)
    if step.act is Act.CLEAR:
        os.rmdir(destination[1], dir_fd=destination[0])
        return
    if step.act in (Act.SWAP, Act.REMOVE):
        _put_aside(workspace, step, destination)
    if step.act is not Act.REMOVE:
        disk.move(workspace.new_place(step.path), destination)


def _put_aside(workspace: Workspace, step: Step, destination: DirectoryEntry) -> None:
    """Move what goes to undo/, unless a program has removed it since the comparison."""
    try:
        disk.move(destination, workspace.undo_place(step.number))
    except FileNotFoundError:
        if disk.exists(destination):
            raise


def _open_up(workspace: Workspace, step: Step) -> None:
    """Make a directory writable whose mode before or after the restore forbids it."""
    modes = [meta.mode for meta in (step.old, step.new) if meta and meta.mode is not None]
    if any(map(disk.is_closed, modes)):
        disk.open_up(workspace.target.parent(step.path) if step.path else (workspace.root_fd, "."))


def _stand_up(workspace: Workspace, step: Step) -> None:
    """Make a directory again that others have removed or replaced during a trial."""
    if not step.path or is_directory(workspace.target.stat(step.path)):
        return
    destination = workspace.target.parent(step.path)
    if disk.exists(destination):
        disk.move(destination, workspace.undo_place(step.number))
    os.mkdir(destination[1], 0o700, dir_fd=destination[0])


def _undo(workspace: Workspace, step: Step) -> None:
    if step.act is Act.KEEP:
        assert step.old is not None
        set_meta(workspace.target.directory(step.path), step.old)
    elif step.act is Act.ADD:
        if not step.old or not is_directory(workspace.target.stat(step.path)):
            _out_of_the_way(workspace, step)
    elif step.act is not Act.CLEAR and disk.exists(old := workspace.undo_place(step.number)):
        replaces = step.act is Act.REPLACE
        if replaces and disk.exists(workspace.new_place(step.path)):
            return  # not done yet: undo/ has a second name of the file, and overlayfs answers ESTALE
        if not replaces or is_directory(workspace.target.stat(step.path)):
            _out_of_the_way(workspace, step)
        disk.move(old, workspace.target.parent(step.path))
    if step.act in (Act.SWAP, Act.REMOVE) and step.old and step.old.mode is not None:
        with suppress(FileNotFoundError):  # a program had removed it before it was moved
            disk.close_down(workspace.target.parent(step.path), step.old.mode)  # `move` opens up


def _out_of_the_way(workspace: Workspace, step: Step) -> None:
    """Move the new entry back to new/, unless it had not come in yet."""
    destination = workspace.target.parent(step.path)
    if disk.exists(destination) and not disk.exists(new := workspace.new_place(step.path)):
        disk.move(destination, new)
