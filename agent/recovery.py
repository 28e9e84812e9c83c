"""After a crash: put the device's data right, then say what became of the jobs that were running.

The data first, at once and without a connection; the report when the twin can be told.
"""

from contextlib import closing
from datetime import UTC, datetime

import structlog

from agent.backup.errors import JobError
from agent.backup.job import Job, Kind
from agent.backup.pipeline import COMMITTED
from agent.backup.restore import committed, recover, remove_made
from agent.journal import Journal, UnfinishedJob
from agent.runner import INTERRUPTED
from agent.staging import Staging

log = structlog.get_logger(__name__)

_STOPPED = "the agent was stopped while the {kind} ran; {state}"


def recover_data(journal: Journal, staging: Staging) -> list[Job]:
    """Bring every target of an interrupted restore to all old or all new; remove incomplete files.

    Returns the jobs whose end is known now and has to be recorded and reported. A target that cannot be
    put right now (a stick that is not plugged in) is tried again at the next start; until then its job
    counts as running.
    """
    staging.remove_incomplete()
    ended = []
    for unfinished in journal.unfinished_jobs():
        try:
            ended.append(_recovered(journal, unfinished))
        except (JobError, OSError):
            log.exception("cannot recover a job", job=unfinished.job.id, dir=str(unfinished.directory))
    return ended


def _recovered(journal: Journal, unfinished: UnfinishedJob) -> Job:
    job, now = unfinished.job, datetime.now(UTC)
    if job.kind is Kind.BACKUP:
        return job.failed(now, INTERRUPTED, "the agent was stopped while the backup ran")
    with closing(journal.checkpoint(job.id)) as checkpoint:
        if committed(unfinished.directory, job.id):
            checkpoint[COMMITTED] = "yes"
        recover(unfinished.directory, job.id)
        if COMMITTED in checkpoint:
            return job.finished(now, "the agent was stopped after everything was restored")
    remove_made(unfinished.made)
    return job.failed(
        now, INTERRUPTED, "the agent was stopped while the restore ran; the old data is in place"
    )
