"""The stages of a restore: unpacked beside its target, then put in place or discarded. In a worker's thread.

They follow each other at once (`put_back`), or with the owner's look at a preview in between (`lay_out`, then
`finalize` or `discard`). In between nothing is held but what is on the disk and in the journal.
"""

from dataclasses import dataclass
from pathlib import Path

import structlog

from agent.backup.archive.reader import ArchiveReader
from agent.backup.archive.survey import Survey
from agent.backup.cancel import CancelToken
from agent.backup.context import Command, Context
from agent.backup.errors import JobError
from agent.backup.job import COMMITTED, STOPPED, WORKING
from agent.backup.restore import Difference, Restore, RestoreOptions, make_target, recover, remove_made

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


@dataclass(frozen=True, slots=True)
class Preview:
    """What is unpacked, and what it would do."""

    files: int
    content_bytes: int
    difference: Difference


def put_back(archive: ArchiveReader, into: Into, context: Context) -> Survey:
    """Unpack beside the target and commit, all or nothing.

    Raised means that the target is as it was before, unless the error says otherwise.
    """
    work = _begun(into, context)
    try:
        survey = work.unpack(archive)
        _commit(work, into, context)
    except BaseException:
        _take_away(work, into, context)
        raise
    if _noted(context):
        _tidied(work, into, context)
    return survey


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


def finalize(into: Into, context: Context) -> None:
    """Commit what `lay_out` has unpacked, compared again with the target. Raises as `put_back`."""
    work = restore_work(into, context)
    try:
        work.take_up()
        _commit(work, into, context)
    except BaseException:
        _take_away(work, into, context)
        raise
    if _noted(context):
        _tidied(work, into, context)


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
    context.checkpoint[WORKING] = "yes"
    make_target(into.directory)
    return restore_work(into, context)


def _commit(work: Restore, into: Into, context: Context) -> None:
    context.phase("committing")
    if into.before and into.after:
        # After a crash whoever was stopped has to be started again.
        context.checkpoint[STOPPED] = "yes"
    try:
        if into.before:
            into.before(into.directory, context.token)
        context.token.finish()
        work.commit(lambda: into.after(into.directory, context.token) if into.after else None)
    except BaseException:
        _start_again(into)
        context.checkpoint.pop(STOPPED, None)
        raise


def _noted(context: Context) -> bool:
    """Whether the journal knows that all is restored.

    After a crash the working directory tells new from old, so the journal has to know before it goes. When
    the journal cannot be written, the directory stays: all is restored, and the next start tidies up.
    """
    try:
        context.checkpoint.pop(STOPPED, None)
        context.checkpoint[COMMITTED] = "yes"
    except JobError:
        log.exception("restored, but the journal cannot be written: the next start tidies up")
        return False
    return True


def _start_again(into: Into) -> None:
    """What was stopped before the commit, or only half, goes on with the old data; also after a cancel."""
    if into.before and into.after:
        try:
            into.after(into.directory, CancelToken())
        except JobError:
            log.exception("afterRestoreCmd failed after the restore was taken back")


def _take_away(work: Restore, into: Into, context: Context) -> None:
    if _tidied(work, into, context, failed=True):
        remove_made(into.made)


def _tidied(work: Restore, into: Into, context: Context, *, failed: bool = False) -> bool:
    """Leave nothing of the restore behind but its result; False when the next start has to do it."""
    try:
        work.discard()
        recover(into.directory, context.job_id, failed=failed)
        del context.checkpoint[WORKING]
    except JobError:
        log.exception("a restore could not be tidied up: the next start of the agent does it")
        return False
    return True
