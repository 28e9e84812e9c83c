"""The commit of a restore, with all that may follow: a trial, the way back, tidying up. In a worker's thread.

Order matters at every step, because each of them may be the last one before a power cut:
docs/architecture.md, "What is durable when".
"""

from dataclasses import replace
from functools import partial

import structlog

from agent.base.clock import BootClock
from agent.base.errors import JobError, NotTakenBack, OnTrial
from agent.base.job import COMMITTED, ON_TRIAL, STOPPED, VERDICT, WORKING
from agent.restore import Together, read_left, recover_together, remove_made
from agent.restore.commit_confirmed import Trial, TrialNote, try_out, verdict
from agent.restore.restore_target import Amount, Into
from agent.transfer.cancel import CancelToken
from agent.transfer.context import Context, RunHook

log = structlog.get_logger(__name__)


def commit(work: Together, into: Into, context: Context, amount: Amount) -> None:
    """Put everything in place, with the owner's commands around it; raises when it was taken back."""
    context.phase("committing")
    if into.before and into.after:
        # After a crash whoever was stopped has to be started again.
        context.checkpoint[STOPPED] = "yes"
    try:
        if into.before:
            into.before(into.directory, context.token)
        context.token.finish()
        work.commit(partial(_in_place, into, context, amount), on_trial=into.trial is not None)
    except NotTakenBack:
        raise  # whoever owns the data is started again when it is whole: by the recovery
    except BaseException as error:
        refusal = _start_again(into)
        context.checkpoint.pop(STOPPED, None)
        if refusal and isinstance(error, JobError):
            raise type(error)(f"{error}; over the old data: {refusal}") from error
        raise


def _in_place(into: Into, context: Context, amount: Amount) -> None:
    if into.after:
        into.after(into.directory, context.token)
    if into.trial:
        # Before the working directory says that there is a trial: it must be known how long it lasts.
        note = into.trial.note.counted(BootClock())
        note = replace(note, files=amount.files, content_bytes=amount.content_bytes)
        context.checkpoint[ON_TRIAL] = note.to_text()


def settle(work: Together, into: Into, context: Context) -> None:
    """All is in place: say so, when a trial says so too."""
    if into.trial:
        _tried(work, into, into.trial, context)
    if _noted(context):
        _tidied(work, context)


def _tried(work: Together, into: Into, trial: Trial, context: Context) -> None:
    """Keep what is restored, or take it back and raise why; `OnTrial` when the agent stops meanwhile."""
    if work.is_open:
        context.checkpoint.pop(STOPPED, None)
        work.let_go()  # others work with the target now
    try:
        note = TrialNote.from_text(context.checkpoint[ON_TRIAL])
        try_out(trial, note, into.directory, context)
        work.take_up()
        work.keep()
    except OnTrial:
        raise
    except BaseException as error:
        _way_back(work, into, context, error)
        raise


def _way_back(work: Together, into: Into, context: Context, error: BaseException) -> None:
    """The old data comes back, with the commands around it. Raises IoError when that is impossible now."""
    try:
        # After a crash on the way it is still known why; and the trial does not go on.
        context.checkpoint[VERDICT] = verdict(error, context.token)
        if into.after:
            context.checkpoint[STOPPED] = "yes"
        if into.before:
            into.before(into.directory, CancelToken())
    except JobError:
        log.exception("a restore is taken back all the same")
    try:
        if not work.is_open:
            work.take_up()
        work.take_back()
        if into.after:
            _run(into.after, into)
            context.checkpoint.pop(STOPPED, None)
    finally:  # where the data is not whole yet, afterRestoreCmd is left to the recovery
        take_away(work, into, context)


def _noted(context: Context) -> bool:
    """Whether the journal knows that all is restored.

    After a crash the working directory tells new from old, so the journal has to know before it goes. When
    the journal cannot be written, the directory stays: all is restored, and the recovery tidies up.
    """
    try:
        context.checkpoint.pop(STOPPED, None)
        context.checkpoint[COMMITTED] = "yes"
    except JobError:
        log.exception("restored, but the journal cannot be written yet")
        return False
    return True


def _start_again(into: Into) -> JobError | None:
    """What was stopped before the commit, or only half, goes on with the old data; also after a cancel."""
    return _run(into.after, into) if into.before and into.after else None


def _run(after: RunHook, into: Into) -> JobError | None:
    """Returns what went wrong: the old data is there, but nobody works with it."""
    try:
        after(into.directory, CancelToken())
    except JobError as error:
        log.exception("afterRestoreCmd failed after the restore was taken back")
        return error
    return None


def take_away(work: Together, into: Into, context: Context) -> None:
    """Leave nothing of a restore that failed or that nobody wants; what cannot go, the recovery removes."""
    if _tidied(work, context, failed=True):
        remove_made(into.made)


def _tidied(work: Together, context: Context, *, failed: bool = False) -> bool:
    """Leave nothing of the restore behind but its result; False when the recovery has to do it."""
    try:
        work.discard()
        left = read_left(context.checkpoint.get(WORKING))
        recover_together(left, context.job_id, failed=failed)
        del context.checkpoint[WORKING]
    except JobError:
        log.exception("a restore could not be tidied up yet")
        return False
    return True
