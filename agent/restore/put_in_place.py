"""The commit of a restore and what follows: the wait for a confirmation, the way back, tidying up.

It runs in a worker's thread. The order of steps matters, because each may be the last one before a power cut:
docs/architecture.md, "What is durable when".
"""

from dataclasses import replace
from functools import partial

import structlog

from agent.base.clock import BootClock
from agent.base.errors import ConfirmationPending, JobError, LeftToRecovery, NotTakenBack, WorkGone
from agent.base.job import COMMITTED, IN_PLACE, STOPPED, UNCONFIRMED, VERDICT, WORKING
from agent.restore.commit_confirmed import CommitConfirmed, ConfirmationNote, await_confirmation, verdict
from agent.restore.directories import remove_made
from agent.restore.memory import read_working
from agent.restore.recovery import NOT_TAKEN_BACK, recover_roots
from agent.restore.restore_set import RestoreSet
from agent.restore.target import Amount, RestoreTarget
from agent.transfer.cancel import CancelToken
from agent.transfer.context import Context

log = structlog.get_logger(__name__)

PATIENCE_S = 0.4
"""The longest time of undoing, and of removing, after a cancel, which ends a job within a second."""


def put_in_place(work: RestoreSet, target: RestoreTarget, context: Context, amount: Amount) -> None:
    """Put everything in place, with the owner's commands around it. Raises when it was taken back."""
    context.phase("committing")
    if target.before and target.after:
        # After a crash the stopped programs have to be started again.
        context.checkpoint[STOPPED] = "yes"
    try:
        if target.before:
            target.before(target.directory, context.token)
        context.token.finish()
        work.commit(partial(_in_place, target, context, amount), unconfirmed=target.confirmation is not None)
    except NotTakenBack:
        raise  # the recovery starts the programs again when the data is whole
    except BaseException as error:
        refusal = _start_again(target) if target.before else None
        context.checkpoint.pop(STOPPED, None)
        if refusal and isinstance(error, JobError):
            raise type(error)(f"{error}; over the old data: {refusal}") from error
        raise


def _in_place(target: RestoreTarget, context: Context, amount: Amount) -> None:
    if target.after:
        target.after(target.directory, context.token)
    if target.confirmation:
        # Before the mark `trial` is made: it must be known how long the wait lasts.
        note = target.confirmation.note.counted(BootClock())
        note = replace(note, files=amount.files, content_bytes=amount.content_bytes)
        context.checkpoint[UNCONFIRMED] = note.to_text()


def settle(work: RestoreSet, target: RestoreTarget, context: Context) -> None:
    """Wait for the confirmation if there is one to wait for, note the outcome, and tidy up."""
    if target.confirmation:
        _tried(work, target, target.confirmation, context)
    if _noted(context):
        _tidied(work, context)


def _tried(work: RestoreSet, target: RestoreTarget, confirmation: CommitConfirmed, context: Context) -> None:
    """Return when the restore is confirmed, or revert it and raise why; as `await_confirmation`."""
    try:
        context.checkpoint[IN_PLACE] = "yes"
        if work.is_open:
            context.checkpoint.pop(STOPPED, None)
            work.let_go()  # others work with the target now
        note = ConfirmationNote.from_text(context.checkpoint[UNCONFIRMED])
        await_confirmation(confirmation, note, target.directory, context)
        _keep(work)
    except ConfirmationPending:
        raise
    except BaseException as error:
        _way_back(work, target, context, error)
        raise


def _keep(work: RestoreSet) -> None:
    try:
        work.take_up()
        work.keep()
    except WorkGone:
        log.warning("restore kept: its working directory was removed")
        work.surrender()


def _way_back(work: RestoreSet, target: RestoreTarget, context: Context, error: BaseException) -> None:
    """Bring the old data back, with the owner's commands around it. Raises IoError when that fails."""
    try:
        # After a crash on the way back the reason is still known, and the wait does not go on.
        context.checkpoint[VERDICT] = verdict(error, context.token)
        if target.after:
            context.checkpoint[STOPPED] = "yes"
        if target.before:
            target.before(target.directory, CancelToken())
    except JobError:
        log.exception("hook failed, restore reverted all the same")
    try:
        is_back = _take_back(work, context)
        _start_again(target)
        context.checkpoint.pop(STOPPED, None)
    finally:  # when the data is not whole yet, the recovery runs afterRestoreCmd
        take_away(work, target, context)
    if not is_back:
        raise WorkGone(NOT_TAKEN_BACK)


def _take_back(work: RestoreSet, context: Context) -> bool:
    """Bring the old data back; return False, and keep the new data, when somebody has removed the old."""
    try:
        if not work.is_open:
            work.take_up()
        work.take_back()
    except WorkGone:
        work.surrender()
        return False
    context.checkpoint.pop(IN_PLACE, None)  # before the working directories go
    return True


def _noted(context: Context) -> bool:
    """Note in the journal that everything is restored; return False when it cannot be written.

    After a crash the working directory tells new from old, so it stays until the note is in the journal; then
    the recovery tidies up.
    """
    try:
        context.checkpoint.pop(STOPPED, None)
        context.checkpoint[COMMITTED] = "yes"
    except JobError:
        log.exception("restore complete, journal not writable yet")
        return False
    return True


def _start_again(target: RestoreTarget) -> JobError | None:
    """Run afterRestoreCmd when the restore was reverted, also after a cancel; return its error."""
    try:
        if target.after:
            target.after(target.directory, CancelToken())
    except JobError as error:
        log.exception("afterRestoreCmd failed after the restore was reverted")
        return error
    return None


def take_away(work: RestoreSet, target: RestoreTarget, context: Context) -> None:
    """Remove all traces of a restore that failed or was discarded; what cannot go, the recovery removes."""
    if _tidied(work, context, failed=True):
        remove_made(target.made)


def _tidied(work: RestoreSet, context: Context, *, failed: bool = False) -> bool:
    """Remove the working directories; return False when that is left to the recovery."""
    try:
        work.discard()
        if work.goes_back_later:
            return False
        working = read_working(context.checkpoint.get(WORKING))
        taken_back = partial(context.checkpoint.pop, IN_PLACE, None)
        recover_roots(working, context.job_id, failed=failed, taken_back=taken_back)
        context.checkpoint.pop(WORKING, None)  # a journal that was lost meanwhile does not have it
    except LeftToRecovery:
        log.info("working directory is being removed", directory=str(context.job_id))
        return False
    except JobError:
        log.exception("working directory not removed yet")
        return False
    return True
