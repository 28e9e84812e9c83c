"""Runs one job at a time: begins what backups, restores and verifications admit, watches it, records its end.

A command is admitted before anything is written. Then one unit of work keeps the command and its job, and
the work begins after COMMIT. Belongs to the main thread.
"""

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import structlog

from agent.base.job import Job, Kind
from agent.base.refusals import Reason, Refused
from agent.base.text import readable
from agent.jobs.admission import Admitted
from agent.jobs.events import JobEnded, JobStarted
from agent.jobs.foundation import Foundation
from agent.jobs.job_hooks import start_again
from agent.jobs.requests.control import CancelRequest
from agent.jobs.task import Outcome, Task, Tools
from agent.journal import UnfinishedJob
from agent.mailbox import Action
from agent.transfer.context import Context, Destination

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

NO_FACTS: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class _RunningJob:
    job: Job
    tools: Tools
    loads_sdk: bool = False
    began_s: float = field(default_factory=time.monotonic)
    """On a clock that nobody sets: the device's own may jump meanwhile."""


class Runner:
    def __init__(self, base: Foundation, recovering: Callable[[], Iterable[Path]]) -> None:
        """`recovering` returns the directories in which an interrupted restore is not yet recovered."""
        self._settings, self._journal, self._recorder = base.settings, base.journal, base.recorder
        self._workers, self._events, self._progress = base.workers, base.events, base.progress
        self._recovering = recovering
        self._running: _RunningJob | None = None

    @property
    def idle(self) -> bool:
        return self._running is None

    @property
    def loads_sdk(self) -> bool:
        """Return True while a job runs that works with a large library."""
        return self._running is not None and self._running.loads_sdk

    def stop(self, message: str) -> None:
        """Ask the job that runs to end; it will be reported as interrupted."""
        if self._running:
            self._workers.interrupt(self._running.tools, message)

    def running(self, correlation_id: str) -> bool:
        """Return True while the job with this id runs."""
        return self._running is not None and self._running.job.correlation_id == correlation_id

    def correlation_id(self, either_id: str) -> str:
        """Return the correlation id of the job that runs with this id; any other id as it is."""
        running = self._running and self._running.job
        return running.correlation_id if running and running.id == either_id else either_id

    def cancel(self, request: CancelRequest) -> None:
        """Stop the job with this id. A restore puts the old data back."""
        if self._running and self.running(request.correlation_id):
            self._workers.cancel(self._running.tools, request.message, request.code)

    def new_job(self, kind: Kind, correlation_id: str) -> tuple[Job, Tools]:
        """Return a new job and its tools. Raises `Refused` (BUSY) while another runs.

        Comes before any look at file systems: a flood of commands must not cost one each.
        """
        self.refuse_second_job()
        job = Job(uuid.uuid4().hex[:16], kind, correlation_id or str(uuid.uuid4()), datetime.now(UTC))
        self._events.can_tell(JobStarted(job))
        return job, self._workers.tools()

    def refuse_unrecovered(self, directories: Iterable[Path]) -> None:
        """Raise `Refused` (BUSY) while a restore that was interrupted in one of them is not yet recovered."""
        wanted = list(directories)
        for each in self._recovering():
            if any(one.is_relative_to(each) or each.is_relative_to(one) for one in wanted):
                message = f"an interrupted restore of '{readable(str(each))}' is still being recovered"
                raise Refused(Reason.BUSY, message)

    def refuse_second_job(self) -> None:
        """Raise `Refused` (BUSY) when a job runs."""
        if self._running:
            kind = self._running.job.kind.title()
            raise Refused(Reason.BUSY, f"{kind} operation is currently in progress!")

    def admitted(
        self,
        job: Job,
        tools: Tools,
        *,
        directory: Path,
        made: Sequence[Path] = (),
        destination: Destination | None = None,
        facts: Mapping[str, object] = NO_FACTS,
        record: Action | None = None,
        work: Callable[[Context], Result],
        ended: Callable[[Outcome[Result]], None],
    ) -> Admitted:
        """Return the job, ready to be recorded and begun.

        `made` are the directories that it makes; the history has `facts`, however it ends. `record` replaces
        the record of a new job and its event.
        `ended` has to call `end`, or `release`.
        """
        task = self._task(job, tools, destination, work, ended)

        def record_start() -> None:
            place = {"place": destination.shown} if destination and destination.shown else {}
            self._journal.jobs.started(job, directory, made, {**place, **facts})
            self._events.emit(JobStarted(job))

        def begin() -> None:
            self._running = _RunningJob(job, tools, destination is not None and destination.loads_sdk)
            log.info(f"{job.kind} started", correlation_id=job.correlation_id, job=job.id, dir=str(directory))
            self._progress.began(job)
            self._workers.start(task)

        return Admitted(job.id, record or record_start, begin)

    def start_again(self, stopped: Sequence[UnfinishedJob]) -> None:
        """Run the later commands of jobs that a crash interrupted after the first ones, one by one."""
        if not stopped:
            return
        (unfinished, *others), tools, job = stopped, self._workers.tools(), stopped[0].job
        work = start_again(self._settings, job, unfinished.directory)

        def ended(_outcome: Outcome[None]) -> None:
            self._running = None
            self.start_again(others)

        self._running = _RunningJob(job, tools)
        self._workers.start(self._task(job, tools, None, work, ended))

    def _task(
        self,
        job: Job,
        tools: Tools,
        destination: Destination | None,
        work: Callable[[Context], Result],
        ended: Callable[[Outcome[Result]], None],
    ) -> Task[Result]:
        return Task(
            owner=job.id,
            correlation_id=job.correlation_id,
            tools=tools,
            destination=destination,
            work=work,
            ended=ended,
            moved=self._progress.moved,
            entered=self._progress.entered,
            expected=self._progress.expected,
        )

    def release(self, job: Job) -> None:
        """End the run of a job whose end is not recorded and told here."""
        self._running = None
        log.info(f"{job.kind} worker ended", correlation_id=job.correlation_id, job=job.id)
        self._progress.ended()

    def end(self, job: Job, facts: Mapping[str, object] = NO_FACTS, *, also: Action = lambda: None) -> None:
        """Record and tell the end, with facts for the history; `also` is called inside that unit of work."""
        about = {**facts, "seconds": self._seconds()}

        def record() -> None:
            with self._journal.unit():
                self._journal.jobs.ended(job, about)
                self._events.emit(JobEnded(job))
                also()

        unkept = partial(self._events.emit, JobEnded(job, kept=False))
        self._recorder.record(record, refused=unkept, job=job.id)
        self._running = None
        _log_end(job, about)
        self._progress.ended()

    def _seconds(self) -> float:
        """Return how long the job that runs has been running, in this run of the agent."""
        assert self._running
        return round(time.monotonic() - self._running.began_s, 3)


def _log_end(job: Job, facts: Mapping[str, object]) -> None:
    ids = {"correlation_id": job.correlation_id, "job": job.id}
    if job.status_code:
        log.error(
            f"{job.kind} failed",
            code=job.status_code,
            reason=job.message,
            seconds=facts["seconds"],
            **ids,
        )
    else:
        note = {"note": job.message} if job.message else {}
        log.info(f"{job.kind} finished", **note, **ids, **facts)
