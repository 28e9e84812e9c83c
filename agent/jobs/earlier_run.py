"""After a restart: reports the jobs of an earlier run, takes up its unconfirmed restores and later commands.

`agent.jobs.restore_recovery` recovers the data before that. Belongs to the main thread.
"""

from functools import partial

import structlog

from agent.jobs.events import JobEnded
from agent.jobs.foundation import Foundation
from agent.jobs.restore import Restores
from agent.jobs.restore_recovery import Recovered
from agent.jobs.running_job import Runner
from agent.jobs.upload_queue import Uploads

log = structlog.get_logger(__name__)

TAKE_UP_S = 1.0
"""Time between two looks whether the running job has ended."""


class EarlierRun:
    """The jobs and uploads that an earlier run of the agent left."""

    def __init__(
        self,
        base: Foundation,
        recovered: Recovered,
        *,
        runner: Runner,
        restores: Restores,
        uploads: Uploads,
    ) -> None:
        self._journal, self._events, self._recorder = base.journal, base.events, base.recorder
        self._recovered, self._runner = recovered, runner
        self._restores, self._uploads = restores, uploads
        self._reported = False

    def begin(self) -> None:
        """Go on with what was recovered."""
        self._take_up(self._recovered)

    def _take_up(self, recovered: Recovered) -> None:
        """Go on with unconfirmed restores, then run the later commands where something was stopped."""
        unconfirmed, stopped = recovered.unconfirmed, recovered.stopped
        if not (unconfirmed or stopped):
            return
        if not self._runner.idle:
            self._recorder.later(TAKE_UP_S, partial(self._take_up, recovered))
        elif unconfirmed:
            self._restores.go_on(unconfirmed[0])
            self._take_up(Recovered(unconfirmed=unconfirmed[1:], stopped=stopped))
        else:
            self._runner.start_again(stopped)

    def report(self) -> None:
        """Record and tell the ends of jobs that an earlier run left. Raises `JournalError`."""
        if self._reported:  # another identity later on: what runs now is not interrupted
            return
        with self._journal.unit():
            self._report(self._recovered)
            self._uploads.reports.report_interrupted()
        self._reported = True

    def late(self, recovered: Recovered) -> None:
        """Report and take up a restore that could not be recovered at the start."""
        if self._reported:
            self._recorder.record(partial(self._report, recovered))
        else:
            self._recovered.ended.extend(recovered.ended)
        self._take_up(recovered)

    def _report(self, recovered: Recovered) -> None:
        with self._journal.unit():
            for job in recovered.ended:
                log.warning("unfinished job ended", job=job.id, state=job.state, reason=job.message)
                self._journal.jobs.ended(job)
                self._events.emit(JobEnded(job))
