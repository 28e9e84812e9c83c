"""After a crash: put the device's data right, then say what became of the jobs that were running.

The data first, at once and without a connection; the report when the twin can be told.
"""

from contextlib import closing
from datetime import UTC, datetime

import structlog

from agent.backup.errors import JobError
from agent.backup.job import COMMITTED, WORKING, Job, Kind, State
from agent.backup.restore import committed, recover, remove_made
from agent.journal import Journal, UnfinishedJob
from agent.staging import Staging
from agent.worker import INTERRUPTED

log = structlog.get_logger(__name__)


def recover_data(journal: Journal, staging: Staging) -> list[Job]:
    """Bring every target of an interrupted restore to all old or all new; remove incomplete files.

    Returns the jobs whose end is known now and has to be recorded and reported. A target that cannot be
    put right now (a stick that is not plugged in) is tried again at the next start; until then its job
    counts as running.
    """
    staging.remove_incomplete()
    ended = []
    for unfinished in journal.unfinished_jobs():
        job = unfinished.job
        try:
            recovered = _recovered(journal, unfinished)
        except (JobError, OSError):
            log.exception("cannot recover a job", job=job.id, dir=str(unfinished.directory))
            continue
        if job.state is State.STARTED:
            ended.append(recovered)
    return ended


def _recovered(journal: Journal, unfinished: UnfinishedJob) -> Job:
    """The job as it ended; one that had ended before was only tidied up after."""
    job, now = unfinished.job, datetime.now(UTC)
    if job.kind is Kind.BACKUP:
        return job.failed(now, INTERRUPTED, "the agent was stopped while the backup ran")
    with closing(journal.checkpoint(job.id)) as checkpoint:
        if committed(unfinished.directory, job.id):
            checkpoint[COMMITTED] = "yes"
        recover(unfinished.directory, job.id)
        finished = COMMITTED in checkpoint
        if not finished:
            remove_made(unfinished.made)
        checkpoint.pop(WORKING, None)
    if job.state is not State.STARTED:
        return job
    if finished:
        return job.finished(now, "the agent was stopped after everything was restored")
    return job.failed(
        now, INTERRUPTED, "the agent was stopped while the restore ran; the old data is in place"
    )
