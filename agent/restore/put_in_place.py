"""The commit of a restore, with all that may follow: a trial, the way back, tidying up. In a worker's thread.

Order matters at every step, because each of them may be the last one before a power cut:
docs/architecture.md, "What is durable when".
"""

from dataclasses import replace
from functools import partial

import structlog

from agent.base.clock import BootClock
from agent.base.errors import ConfirmationPending, JobError, NotTakenBack, WorkGone
from agent.base.job import COMMITTED, IN_PLACE, STOPPED, UNCONFIRMED, VERDICT, WORKING
from agent.restore.commit_confirmed import CommitConfirmed, ConfirmationNote, await_confirmation, verdict
from agent.restore.directories import remove_made
from agent.restore.recovery import NOT_TAKEN_BACK, read_working, recover_roots
from agent.restore.restore_set import RestoreSet
from agent.restore.target import Amount, RestoreTarget
from agent.transfer.cancel import CancelToken
from agent.transfer.context import Context, RunHook

log = structlog.get_logger(__name__)


def put_in_place(work: RestoreSet, target: RestoreTarget, context: Context, amount: Amount) -> None:
    """Put everything in place, with the owner's commands around it; raises when it was taken back."""
    context.phase("committing")
    if target.before and target.after:
        # After a crash whoever was stopped has to be started again.
        context.checkpoint[STOPPED] = "yes"
    try:
        if target.before:
            target.before(target.directory, context.token)
        context.token.finish()
        work.commit(partial(_in_place, target, context, amount), unconfirmed=target.confirmation is not None)
    except NotTakenBack:
        raise  # whoever owns the data is started again when it is whole: by the recovery
    except BaseException as error:
        refusal = _start_again(target)
        context.checkpoint.pop(STOPPED, None)
        if refusal and isinstance(error, JobError):
            raise type(error)(f"{error}; over the old data: {refusal}") from error
        raise


def _in_place(target: RestoreTarget, context: Context, amount: Amount) -> None:
    if target.after:
        target.after(target.directory, context.token)
    if target.confirmation:
        # Before the working directory says that there is a trial: it must be known how long it lasts.
        note = target.confirmation.note.counted(BootClock())
        note = replace(note, files=amount.files, content_bytes=amount.content_bytes)
        context.checkpoint[UNCONFIRMED] = note.to_text()


def settle(work: RestoreSet, target: RestoreTarget, context: Context) -> None:
    """All is in place: say so, when a trial says so too."""
    if target.confirmation:
        _tried(work, target, target.confirmation, context)
    if _noted(context):
        _tidied(work, context)


def _tried(work: RestoreSet, target: RestoreTarget, confirmation: CommitConfirmed, context: Context) -> None:
    """Keep what is restored, or take it back and raise why; `ConfirmationPending` when the agent stops."""
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
    """The old data comes back, with the commands around it. Raises IoError when that is impossible now."""
    try:
        # After a crash on the way it is still known why; and the trial does not go on.
        context.checkpoint[VERDICT] = verdict(error, context.token)
        if target.after:
            context.checkpoint[STOPPED] = "yes"
        if target.before:
            target.before(target.directory, CancelToken())
    except JobError:
        log.exception("hook failed, restore reverted all the same")
    try:
        _take_back(work, context)
        if target.after:
            _run(target.after, target)
            context.checkpoint.pop(STOPPED, None)
    except WorkGone as gone:
        work.surrender()
        if target.after:
            _run(target.after, target)
            context.checkpoint.pop(STOPPED, None)
        raise WorkGone(NOT_TAKEN_BACK) from gone
    finally:  # where the data is not whole yet, afterRestoreCmd is left to the recovery
        take_away(work, target, context)


def _take_back(work: RestoreSet, context: Context) -> None:
    if not work.is_open:
        work.take_up()
    work.take_back()
    context.checkpoint.pop(IN_PLACE, None)  # before the working directories go


def _noted(context: Context) -> bool:
    """Note in the journal that all is restored; return True when it took the note.

    After a crash the working directory tells new from old, so the journal has to know before it goes. When
    the journal cannot be written, the directory stays: all is restored, and the recovery tidies up.
    """
    try:
        context.checkpoint.pop(STOPPED, None)
        context.checkpoint[COMMITTED] = "yes"
    except JobError:
        log.exception("restore complete, journal not writable yet")
        return False
    return True


def _start_again(target: RestoreTarget) -> JobError | None:
    """Start what was stopped before the commit, or only half, over the old data; also after a cancel."""
    return _run(target.after, target) if target.before and target.after else None


def _run(after: RunHook, target: RestoreTarget) -> JobError | None:
    """Returns what went wrong: the old data is there, but nobody works with it."""
    try:
        after(target.directory, CancelToken())
    except JobError as error:
        log.exception("afterRestoreCmd failed after the restore was reverted")
        return error
    return None


def take_away(work: RestoreSet, target: RestoreTarget, context: Context) -> None:
    """Leave nothing of a restore that failed or that nobody wants; what cannot go, the recovery removes."""
    if _tidied(work, context, failed=True):
        remove_made(target.made)


def _tidied(work: RestoreSet, context: Context, *, failed: bool = False) -> bool:
    """Leave nothing of the restore behind but its result; False when the recovery has to do it."""
    try:
        work.discard()
        working = read_working(context.checkpoint.get(WORKING))
        taken_back = partial(context.checkpoint.pop, IN_PLACE, None)
        recover_roots(working, context.job_id, failed=failed, taken_back=taken_back)
        del context.checkpoint[WORKING]
    except JobError:
        log.exception("working directory not removed yet")
        return False
    return True
