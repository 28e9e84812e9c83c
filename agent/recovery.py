"""After a crash: put the device's data right, then say what became of the jobs that were running.

The data first, at once and without a connection; the report when the twin can be told.
"""

import json
from collections.abc import Collection, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import structlog

from agent.backup.errors import JobError
from agent.backup.job import COMMITTED, ON_TRIAL, STOPPED, VERDICT, WORKING, Job, Kind, State
from agent.backup.restore import committed, on_trial, recover, remove_made
from agent.journal import Journal, UnfinishedJob
from agent.preview_note import forget_preview
from agent.staging import Staging
from agent.worker import INTERRUPTED
from providers.directory import remove_abandoned_below

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What is still to be done when the data is in order."""

    ended: list[Job] = field(default_factory=list)
    """Jobs whose end is known now, and has to be recorded and reported."""
    trials: list[UnfinishedJob] = field(default_factory=list)
    """Restores on trial, which goes on."""
    stopped: list[UnfinishedJob] = field(default_factory=list)
    """Restores whose beforeRestoreCmd stopped somebody: their afterRestoreCmd has to be run."""


def recover_data(
    journal: Journal, staging: Staging, targets: Iterable[Path] = (), waiting: Collection[str] = ()
) -> Recovered:
    """Bring every target of an interrupted restore to all old or all new; remove incomplete files.

    After an interrupted backup, also those in `targets`, the device's own places for archives. Previews go,
    but for those `waiting`, by their ids. A target that cannot be put right now (a stick that is not plugged
    in) is tried again at the next start; until then its job counts as running.
    """
    staging.remove_incomplete()
    recovered, unfinished_jobs = Recovered(), journal.unfinished_jobs()
    backups = [each.job for each in unfinished_jobs if each.job.kind is Kind.BACKUP]
    if backups:
        since = min(job.started for job in backups)
        for target in targets:
            remove_abandoned_below(target, since.timestamp())
    for unfinished in unfinished_jobs:
        job = unfinished.job
        if job.id in waiting:
            continue
        try:
            if _is_on_trial(journal, unfinished):
                recovered.trials.append(unfinished)
                continue
            ended, stopped = _recovered(journal, unfinished)
        except (JobError, OSError):
            log.exception("cannot recover a job", job=job.id, dir=str(unfinished.directory))
            continue
        if job.state is State.STARTED:
            recovered.ended.append(ended)
        elif job.state is State.PREVIEW:
            forget_preview(journal, job.id)
        if stopped:
            recovered.stopped.append(unfinished)
    return recovered


def _is_on_trial(journal: Journal, unfinished: UnfinishedJob) -> bool:
    """Not when it was on its way back: then it goes back without looking again at whoever may confirm."""
    if unfinished.job.state is not State.STARTED:
        return False
    with closing(journal.checkpoint(unfinished.job.id)) as checkpoint:
        if ON_TRIAL not in checkpoint or VERDICT in checkpoint:
            return False
    return on_trial(unfinished.directory, unfinished.job.id)


def _recovered(journal: Journal, unfinished: UnfinishedJob) -> tuple[Job, bool]:
    """The job as it ended, and whether it had stopped somebody.

    One that had ended before is only tidied up after.
    """
    job, now = unfinished.job, datetime.now(UTC)
    if job.kind is Kind.BACKUP:
        return job.failed(now, INTERRUPTED, "the agent was stopped while the backup ran"), False
    if job.kind is Kind.VERIFY:
        return job.failed(now, INTERRUPTED, "the agent was stopped while an archive was verified"), False
    with closing(journal.checkpoint(job.id)) as checkpoint:
        failed = job.state is State.FAILED
        if not failed and committed(unfinished.directory, job.id):
            checkpoint[COMMITTED] = "yes"
        recover(unfinished.directory, job.id, failed=failed)
        finished = COMMITTED in checkpoint
        if not finished:
            remove_made(unfinished.made)
        if job.state is not State.STARTED:
            checkpoint.pop(COMMITTED, None)  # its end is in the journal already
        checkpoint.pop(WORKING, None)
        stopped = STOPPED in checkpoint
        verdict = checkpoint.get(VERDICT)
    if job.state is State.STARTED:
        if finished:
            job = job.finished(now, "the agent was stopped after everything was restored")
        else:
            message = "the agent was stopped while the restore ran; the old data is in place"
            job = job.failed(now, *(json.loads(verdict) if verdict else (INTERRUPTED, message)))
    return job, stopped
