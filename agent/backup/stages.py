"""The stages of a restore: unpacked beside its target, then put in place or discarded. In a worker's thread.

They follow each other at once (`put_back`), or with the owner's look at a preview in between (`lay_out`, then
`finalize` or `discard`). In between nothing is held but what is on the disk and in the journal.
"""

from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import structlog

from agent.backup.archive.reader import ArchiveReader
from agent.backup.cancel import CancelToken
from agent.backup.context import Command, Context
from agent.backup.errors import JobError, NotTakenBack, OnTrial
from agent.backup.job import COMMITTED, ON_TRIAL, STOPPED, VERDICT, WORKING
from agent.backup.restore import (
    Difference,
    Restore,
    RestoreOptions,
    make_target,
    recover,
    remove_made,
    where_mounted,
)
from agent.backup.trial import Trial, TrialNote, try_out, verdict
from agent.bootclock import BootClock

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Into:
    """Where a restore goes, and how."""

    directory: Path
    made: list[Path]
    """Directories that do not exist yet, `directory` last: made first, and removed again on failure."""
    options: RestoreOptions
    before: Command | None = None
    after: Command | None = None
    """Around the commit: they stop and start whoever owns the data."""
    trial: Trial | None = None
    """After the commit the old data is kept, until this decides."""


@dataclass(frozen=True, slots=True)
class Amount:
    """What an archive brings."""

    files: int
    content_bytes: int
    archive: str = ""
    """What it is called, and where it came from; empty when an earlier run of the agent fetched it."""
    place: str = ""

    def facts(self) -> dict[str, object]:
        """For the history: what is known."""
        return {name: value for name, value in asdict(self).items() if value != ""}


@dataclass(frozen=True, slots=True)
class Preview:
    """What is unpacked, and what it would do."""

    files: int
    content_bytes: int
    difference: Difference
    unexportable: list[str] = field(default_factory=list)
    """The first of what was left out of the archive: a restore does not bring it back."""
    archive: str = ""
    place: str = ""


def put_back(archive: ArchiveReader, into: Into, context: Context) -> Amount:
    """Unpack beside the target and commit, all or nothing.

    Raised means that the target is as it was before, unless the error says otherwise; but `OnTrial` means
    that it is new, and may still become old again.
    """
    work = _begun(into, context)
    try:
        survey = work.unpack(archive)
        amount = Amount(survey.files, survey.size_bytes)
        _commit(work, into, context, amount)
    except BaseException:
        _take_away(work, into, context)
        raise
    _settle(work, into, context)
    return amount


def lay_out(archive: ArchiveReader, into: Into, context: Context) -> Preview:
    """Unpack beside the target and compare; what is unpacked stays. Raised means that nothing is left."""
    work = _begun(into, context)
    try:
        survey = work.unpack(archive)
        context.phase("comparing")
        difference = work.difference()
        work.leave()
    except BaseException:
        _take_away(work, into, context)
        raise
    return Preview(survey.files, survey.size_bytes, difference)


def finalize(into: Into, amount: Amount, context: Context) -> Amount:
    """Commit what `lay_out` has unpacked, compared again with the target. Raises as `put_back`."""
    work = restore_work(into, context)
    try:
        work.take_up()
        _commit(work, into, context, amount)
    except BaseException:
        _take_away(work, into, context)
        raise
    _settle(work, into, context)
    return amount


def go_on(into: Into, context: Context) -> Amount:
    """Go on with a trial that an earlier run of the agent left. Raises as `put_back`."""
    context.checkpoint.pop(STOPPED, None)  # afterRestoreCmd had succeeded, or there would be no trial
    _settle(restore_work(into, context), into, context)
    note = TrialNote.from_text(context.checkpoint[ON_TRIAL])
    return Amount(note.files, note.content_bytes)


def discard(into: Into, context: Context) -> None:
    """Remove what `lay_out` has unpacked; what cannot go now, the next start removes."""
    _take_away(restore_work(into, context), into, context)


def restore_work(into: Into, context: Context) -> Restore:
    """The restore of this job, not begun yet."""
    return Restore(
        into.directory,
        context.job_id,
        into.options,
        context.token,
        context.progress,
        expected=context.expect,
    )


def _begun(into: Into, context: Context) -> Restore:
    # Until this is taken back, every start of the agent looks into the target.
    context.checkpoint[WORKING] = where_mounted(into.directory)
    make_target(into.directory)
    return restore_work(into, context)


def _commit(work: Restore, into: Into, context: Context, amount: Amount) -> None:
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


def _settle(work: Restore, into: Into, context: Context) -> None:
    """All is in place: say so, when a trial says so too."""
    if into.trial:
        _tried(work, into, into.trial, context)
    if _noted(context):
        _tidied(work, into, context)


def _tried(work: Restore, into: Into, trial: Trial, context: Context) -> None:
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


def _way_back(work: Restore, into: Into, context: Context, error: BaseException) -> None:
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
        _take_away(work, into, context)


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


def _run(after: Command, into: Into) -> JobError | None:
    """Returns what went wrong: the old data is there, but nobody works with it."""
    try:
        after(into.directory, CancelToken())
    except JobError as error:
        log.exception("afterRestoreCmd failed after the restore was taken back")
        return error
    return None


def _take_away(work: Restore, into: Into, context: Context) -> None:
    if _tidied(work, into, context, failed=True):
        remove_made(into.made)


def _tidied(work: Restore, into: Into, context: Context, *, failed: bool = False) -> bool:
    """Leave nothing of the restore behind but its result; False when the recovery has to do it."""
    try:
        work.discard()
        recover(into.directory, context.job_id, failed=failed)
        del context.checkpoint[WORKING]
    except JobError:
        log.exception("a restore could not be tidied up yet")
        return False
    return True
