"""After a crash: recovers the device's data, and finds how the interrupted jobs ended.

The data is recovered at the start, without a connection; `earlier_run` reports the jobs later. While a
file server does not answer, the agent begins its work, and the recovery is tried again beside it.
"""

import json
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from agent.base.errors import IoError, JobError
from agent.base.job import (
    COMMITTED,
    CONFIRMED,
    IN_PLACE,
    STOPPED,
    UNCONFIRMED,
    VERDICT,
    WORKING,
    Job,
    Kind,
    State,
)
from agent.jobs.filesystem_probe import ThreadedCall
from agent.jobs.lost_restores import LostRestores, adopt
from agent.jobs.task import INTERRUPTED
from agent.journal import Journal, JournalError, UnfinishedJob
from agent.journal.checkpoints import JournalCheckpoint
from agent.mailbox import Mailbox
from agent.restore.memory import read_working, work_id
from agent.settings import Settings
from providers.directory import remove_abandoned_below

if TYPE_CHECKING:
    from agent.restore.proof import Proof

log = structlog.get_logger(__name__)

PATIENCE_S = 10.0
"""The time that the start of the agent waits for file systems."""
AGAIN_S = 5.0
"""Time between two attempts to recover a restore."""

_LOOKED = "lost_restores_looked_for"
"""The note of a journal that is not fresh any more."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """Work that is left when the data is recovered."""

    ended: list[Job] = field(default_factory=list)
    """Jobs whose end has to be recorded and told."""
    unconfirmed: list[UnfinishedJob] = field(default_factory=list)
    """Commit-confirmed restores that go on waiting."""
    stopped: list[UnfinishedJob] = field(default_factory=list)
    """Jobs that were interrupted after the owner's first command: the later ones have to be run."""

    def __add__(self, other: "Recovered") -> "Recovered":
        return Recovered(
            self.ended + other.ended, self.unconfirmed + other.unconfirmed, self.stopped + other.stopped
        )


class Recovery:
    """Recovers interrupted restores, at the start and later on. Belongs to the main thread."""

    def __init__(
        self, settings: Settings, journal: Journal, mailbox: Mailbox, late: Callable[[Recovered], None]
    ) -> None:
        """The main thread calls `late` for each recovery that ends after `begin`."""
        self._settings, self._journal, self._mailbox, self._late = settings, journal, mailbox, late
        self._waiting: dict[str, UnfinishedJob] = {}

    def directories(self) -> list[Path]:
        """Return the directories whose restores are not yet recovered."""
        waiting = self._waiting.values()
        return [
            path
            for each in waiting
            for path in (each.directory, *(left.directory for left in read_working(each.working)))
        ]

    def begin(self, targets: Iterable[Path], waiting: Collection[str] = ()) -> Recovered:
        """Bring every target of an interrupted restore to all old or all new.

        After a backup that was interrupted, or ended by its disk, also remove unfinished files in `targets`.
        Discard previews, except those with an id in `waiting`. A restore that cannot be recovered now (its
        stick is not plugged in) is tried again until it can, also at the next start; until then its job
        counts as running.
        """
        deadline_s = time.monotonic() + PATIENCE_S
        if self._journal.notes.read(_LOOKED) is None:
            self._find_lost(deadline_s)
        unfinished_jobs = [each for each in self._journal.jobs.unfinished() if each.job.id not in waiting]
        since = self._journal.jobs.untidy_since()
        tidying = _tidy(targets, since) if since else []
        calls = [(each, self._recover(each)) for each in unfinished_jobs]
        for call in [*tidying, *(call for _, call in calls)]:
            call.done(within_s=deadline_s - time.monotonic())
        recovered = Recovered()
        for unfinished, call in calls:
            recovered += self._first_result(unfinished, call)
        return recovered

    def _find_lost(self, deadline_s: float) -> None:
        """Make restores that a fresh journal does not know its unfinished jobs, when they are found."""
        looking = ThreadedCall("lost restores", LostRestores(self._settings, self._known_work()).find)
        if looking.done(within_s=deadline_s - time.monotonic()):
            self._adopt(looking)
        else:
            log.error("restores not recovered yet: a directory does not respond")
            self._mailbox.call_later(AGAIN_S, partial(self._find_late, looking))

    def _find_late(self, looking: "ThreadedCall[list[Proof]]") -> None:
        if not looking.done():
            self._mailbox.call_later(AGAIN_S, partial(self._find_late, looking))
            return
        adopted = self._adopt(looking)
        for unfinished in self._journal.jobs.unfinished():
            if unfinished.job.id in adopted:
                self._wait_for(unfinished, self._recover(unfinished))

    def _adopt(self, looking: "ThreadedCall[list[Proof]]") -> set[str]:
        try:
            known = self._known_work()  # more than before, when it took long
            proofs = [proof for proof in looking.result() if proof.job_id not in known]
            with self._journal.unit():
                if proofs:
                    adopt(self._journal, proofs)
                self._journal.notes.keep(_LOOKED, "yes")
        except (JobError, OSError, JournalError):
            log.exception("search for restores failed")
            return set()
        return {proof.job_id for proof in proofs}

    def _known_work(self) -> set[str]:
        unfinished = self._journal.jobs.unfinished()
        if not unfinished:
            return set()
        roots = [(each.job.id, root.number) for each in unfinished for root in read_working(each.working)]
        return {work_id(job_id, number) for job_id, number in roots} | {each.job.id for each in unfinished}

    def look_after(self, job_id: str) -> None:
        """Recover from now on a restore of this run that ended without putting its target in order."""
        for unfinished in self._journal.jobs.unfinished():
            # A job whose end is not in the journal is left to the next start.
            if unfinished.job.id == job_id and unfinished.job.state is not State.STARTED:
                self._wait_for(unfinished, self._recover(unfinished))

    def _first_result(self, unfinished: UnfinishedJob, call: ThreadedCall[Recovered]) -> Recovered:
        about = {"job": unfinished.job.id, "dir": str(unfinished.directory)}
        if call.done():
            try:
                return self._result(unfinished, call)
            except (JobError, OSError, JournalError):
                log.exception("restore not recovered yet", **about)
                call = self._recover(unfinished)
        else:
            log.error("restore not recovered yet: its directory does not respond", **about)
        self._wait_for(unfinished, call)
        return Recovered()

    def _wait_for(self, unfinished: UnfinishedJob, call: ThreadedCall[Recovered]) -> None:
        self._waiting[unfinished.job.id] = unfinished
        self._mailbox.call_later(AGAIN_S, partial(self._look_again, unfinished, call))

    def _recover(self, unfinished: UnfinishedJob) -> ThreadedCall[Recovered]:
        return ThreadedCall("recovery", partial(_recovered, self._journal, unfinished))

    def _result(self, unfinished: UnfinishedJob, call: ThreadedCall[Recovered]) -> Recovered:
        recovered = call.result()
        if unfinished.job.state is State.PREVIEW:
            self._journal.jobs.forget_preview(unfinished.job.id)
        return recovered

    def _look_again(self, unfinished: UnfinishedJob, call: ThreadedCall[Recovered]) -> None:
        if call.done():
            try:
                recovered = self._result(unfinished, call)
            except (JobError, OSError, JournalError):
                call = self._recover(unfinished)
            else:
                del self._waiting[unfinished.job.id]
                self._late(recovered)
                return
        self._mailbox.call_later(AGAIN_S, partial(self._look_again, unfinished, call))


def _tidy(targets: Iterable[Path], since: datetime) -> list[ThreadedCall[Any]]:
    return [
        ThreadedCall("tidy", partial(remove_abandoned_below, target, since.timestamp())) for target in targets
    ]


def _recovered(journal: Journal, unfinished: UnfinishedJob) -> Recovered:
    """Recover the data of a job, and return how it ended; a job that had ended is only cleaned up after.

    Raises `JobError` and OSError when that is not possible now.
    """
    from agent.restore.recovery import NOT_TAKEN_BACK

    job, now = unfinished.job, datetime.now(UTC)
    if job.kind is not Kind.RESTORE:
        return _interrupted(journal, unfinished, now)
    with closing(journal.checkpoint(job.id)) as checkpoint:
        if _is_unconfirmed(unfinished, checkpoint):
            return Recovered(unconfirmed=[unfinished])
        lost = IN_PLACE in checkpoint and COMMITTED not in checkpoint and _is_lost(unfinished)
        finished = _recover_roots(unfinished, checkpoint) or (lost and CONFIRMED in checkpoint)
        stopped = [unfinished] if STOPPED in checkpoint else []
        verdict = checkpoint.get(VERDICT)
    if job.state is not State.STARTED:
        return Recovered(stopped=stopped)
    if lost and not finished:
        ended = job.failed(now, IoError.code, NOT_TAKEN_BACK)
    elif finished:
        ended = job.finished(now, "the agent was stopped after everything was restored")
    else:
        message = "the agent was stopped while the restore ran; the old data is in place"
        ended = job.failed(now, *(json.loads(verdict) if verdict else (INTERRUPTED, message)))
    return Recovered([ended], stopped=stopped)


def _interrupted(journal: Journal, unfinished: UnfinishedJob, now: datetime) -> Recovered:
    job = unfinished.job
    doing = "an archive was verified" if job.kind is Kind.VERIFY else "the backup ran"
    with closing(journal.checkpoint(job.id)) as checkpoint:
        stopped = [unfinished] if STOPPED in checkpoint else []
    if job.state is not State.STARTED:
        return Recovered(stopped=stopped)
    return Recovered([job.failed(now, INTERRUPTED, f"the agent was stopped while {doing}")], stopped=stopped)


def _is_lost(unfinished: UnfinishedJob) -> bool:
    """Return True when the old data that an unconfirmed restore put aside was removed by somebody.

    Then no root is reverted.
    """
    from agent.restore.recovery import forget_roots, is_gone

    working = read_working(unfinished.working)
    if working and not is_gone(working, unfinished.job.id):
        return False
    forget_roots(working, unfinished.job.id)
    return True


def _is_unconfirmed(unfinished: UnfinishedJob, checkpoint: JournalCheckpoint) -> bool:
    """Return True for a restore that may still be confirmed; False when it was being reverted."""
    from agent.restore.recovery import is_unconfirmed

    started = unfinished.job.state is State.STARTED and unfinished.working
    if not started or UNCONFIRMED not in checkpoint or VERDICT in checkpoint:
        return False
    return is_unconfirmed(read_working(unfinished.working), unfinished.job.id)


def _recover_roots(unfinished: UnfinishedJob, checkpoint: JournalCheckpoint) -> bool:
    """Bring all roots to one state; return True for the new data, False for the old."""
    from agent.restore.directories import remove_made
    from agent.restore.recovery import is_committed, recover_roots

    job, left = unfinished.job, read_working(unfinished.working)
    failed = job.state is State.FAILED
    if not failed and is_committed(left, job.id):
        checkpoint[COMMITTED] = "yes"
    recover_roots(left, job.id, failed=failed, taken_back=partial(checkpoint.pop, IN_PLACE, None))
    finished = COMMITTED in checkpoint
    if not finished:
        remove_made(unfinished.made)
    if job.state is not State.STARTED:
        checkpoint.pop(COMMITTED, None)  # its end is in the journal already
    checkpoint.pop(WORKING, None)
    return finished
