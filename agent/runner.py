"""One job at a time, a backup or a restore.

A command is admitted before anything is written; what was admitted is recorded, in the journal's
transaction together with the command, and then begun. Everything here runs in the main thread.
"""

import sqlite3
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from agent.admission import Admission, Admitted, device_tag, metadata
from agent.backup.archive.survey import Survey
from agent.backup.exclusion import excluding
from agent.backup.job import PLAIN, SEALED, Job, Kind
from agent.backup.pipeline import BackupOrder, BackupResult, about, backup
from agent.backup.restore import missing
from agent.backup.restoring import RestoreOrder, restore
from agent.handover import Staged
from agent.journal import Journal, UnfinishedJob
from agent.kept import KeptArchives, skip_key
from agent.mailbox import Action
from agent.messaging.ditto import EXECUTION_FAILED, CommandError
from agent.monitor import Monitor
from agent.orders import archive_options, hook, restore_options, start_again
from agent.parameters import Parameters
from agent.sealing import seal_for, unseal_for
from agent.settings import Settings
from agent.staging import Staging
from agent.uploads import Uploads
from agent.worker import Outcome, Task, Tools, Workers

log = structlog.get_logger(__name__)

Result = TypeVar("Result")
Facts = Mapping[str, object]
"""What is known of a job that ended, for the log and the history."""


class JobListener(Protocol):
    """Whoever tells the world. Called inside the journal's transaction, `settled` after it."""

    def check_job_fits(self, job: Job) -> None:
        """Raise `CommandError` 400 when what must be said of it could not be sent."""

    def job_changed(self, job: Job) -> None: ...
    def job_ended_unrecorded(self, job: Job) -> None:
        """The same when the journal cannot be written: told, but not kept."""

    def withdrawn(self) -> None:
        """The journal's transaction has failed: what was told inside it was not said."""

    def settled(self) -> None: ...


RECORD_AGAIN_S = 2.0
"""How long to wait before the end of a job is written again to a journal that could not be written."""


@dataclass(frozen=True, slots=True)
class _RunningJob:
    job: Job
    tools: Tools


class Runner:
    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        workers: Workers,
        *,
        staging: Staging,
        uploads: Uploads,
        listener: JobListener,
        later: Callable[[float, Action], object],
        monitor: Monitor,
    ) -> None:
        """`later` calls an action after so many seconds, in the main thread."""
        self._later = later
        self._settings, self._journal, self._workers = settings, journal, workers
        self._staging, self._uploads, self._listener = staging, uploads, listener
        self._monitor = monitor
        self._admission = Admission(settings)
        self._kept = KeptArchives(journal)
        self._running: _RunningJob | None = None

    @property
    def idle(self) -> bool:
        return self._running is None

    def stop(self, message: str) -> None:
        """Ask the job that runs to end; it will be reported as interrupted."""
        if self._running:
            self._workers.interrupt(self._running.tools, message)

    def running(self, correlation_id: str) -> bool:
        """Whether the job with this id runs."""
        return self._running is not None and self._running.job.correlation_id == correlation_id

    def cancel(self, correlation_id: str, code: str, message: str) -> None:
        """Stop the job with this id. A restore goes back to what was there."""
        if self._running and self.running(correlation_id):
            self._workers.cancel(self._running.tools, message, code)

    # Backup

    def backup(self, parameters: Parameters, device_id: str) -> Admitted:
        """Admit a backup. Raises `CommandError` 400 or 409."""
        job, tools = self._new_job(Kind.BACKUP, parameters), self._workers.tools()
        collect = hook(self._settings, "backupCmd", self._settings.backup_cmd, job)
        directory = self._directory(parameters, job, made_for_a_command=bool(collect))
        seal = seal_for(parameters, self._settings.seal)
        path = self._staging.free_path(device_tag(device_id), SEALED if seal else PLAIN)
        place = None
        staged = Staged(path, options=parameters.prefixed("options."))
        if parameters.provider:
            facts = metadata(job.correlation_id, device_id)
            place = self._admission.place(parameters, tools.connections, path.name, facts)
        else:
            self._uploads.check_fits(staged, job.correlation_id)
        key = skip_key(parameters, directory, self._settings)
        self._refuse_when_busy()
        order = BackupOrder(
            directory=directory,
            own_storage=self._settings.storage,
            staged=path,
            place=place,
            options=archive_options(self._settings),
            strict=self._settings.strict_backup,
            checksum=self._settings.checksum,
            excluded=excluding(self._settings.exclude, parameters.exclude),
            skip_unchanged=key is not None,
            last=self._kept.last(key) if key else None,
            reserve_bytes=self._settings.storage_reserve,
            collect=collect,
            seal=seal,
        )
        task = Task(
            owner=job.id,
            correlation_id=job.correlation_id,
            tools=tools,
            place=place,
            work=partial(backup, order),
            ended=partial(self._backup_ended, job, None if place else staged, key),
            moved=self._monitor.moved,
            entered=self._monitor.entered,
        )
        return self._admitted(job, directory, [], task)

    def _backup_ended(
        self, job: Job, staged: Staged | None, key: str | None, outcome: Outcome[BackupResult]
    ) -> None:
        result = outcome.result
        if result is None:
            self._job_ended(job.failed(datetime.now(UTC), outcome.code, outcome.message))
            return
        report = result.report
        ended = job.finished(datetime.now(UTC), about(result))
        if staged:
            staged = replace(staged, size_bytes=result.size_bytes, sha256=result.sha256)
        self._job_ended(
            ended,
            staged,
            partial(self._kept.remember, key, result.kept) if key and result.kept else None,
            files=report.files, excluded=report.excluded, content_bytes=report.size_bytes,
            archive_bytes=result.size_bytes, sha256=result.sha256,
            place=result.stored.place if result.stored else str(staged and staged.path),
        )  # fmt: skip

    # Restore

    def restore(self, parameters: Parameters, device_id: str) -> Admitted:
        """Admit a restore. Raises `CommandError` 400 or 409."""
        settings = self._settings
        job, tools = self._new_job(Kind.RESTORE, parameters), self._workers.tools()
        unseal = unseal_for(parameters, settings.seal)
        deliver = hook(settings, "restoreCmd", settings.restore_cmd, job)
        directory = self._directory(parameters, job, made_for_a_command=bool(deliver))
        place = self._admission.place(parameters, tools.connections, None)
        options = restore_options(settings, parameters.restore_mode)
        self._refuse_when_busy()
        made = missing(directory)
        order = RestoreOrder(
            directory=directory,
            made=made,
            download=self._staging.download(job.id),
            place=place,
            device_tag=device_tag(device_id),
            options=options,
            unseal=unseal,
            deliver=deliver,
            before=hook(settings, "beforeRestoreCmd", settings.before_restore_cmd, job, directory),
            after=hook(settings, "afterRestoreCmd", settings.after_restore_cmd, job, directory),
        )
        task = Task(
            owner=job.id,
            correlation_id=job.correlation_id,
            tools=tools,
            place=place,
            work=partial(restore, order),
            ended=partial(self._restore_ended, job),
            moved=self._monitor.moved,
            entered=self._monitor.entered,
        )
        return self._admitted(job, directory, made, task)

    def _restore_ended(self, job: Job, outcome: Outcome[Survey]) -> None:
        survey = outcome.result
        if survey is None:
            self._job_ended(job.failed(datetime.now(UTC), outcome.code, outcome.message))
            return
        self._job_ended(job.finished(datetime.now(UTC)), files=survey.files, content_bytes=survey.size_bytes)

    def start_again(self, stopped: Sequence[UnfinishedJob]) -> None:
        """After a crash: run afterRestoreCmd for whoever beforeRestoreCmd had stopped; busy meanwhile."""
        if not stopped:
            return
        (unfinished, *others), tools, job = stopped, self._workers.tools(), stopped[0].job
        work = start_again(self._settings, job, unfinished.directory)

        def ended(_outcome: Outcome[None]) -> None:
            self._running = None
            self.start_again(others)

        self._running = _RunningJob(job, tools)
        self._workers.start(
            Task(
                owner=job.id,
                correlation_id=job.correlation_id,
                tools=tools,
                place=None,
                work=work,
                ended=ended,
                moved=self._monitor.moved,
            )
        )

    # Both

    def _directory(self, parameters: Parameters, job: Job, *, made_for_a_command: bool) -> Path:
        """What is saved or restored: where a command collects or delivers, or what was asked for."""
        if made_for_a_command:
            return self._staging.work_directory(job.id)
        return self._admission.directory(parameters, must_exist=job.kind is Kind.BACKUP)

    def _new_job(self, kind: Kind, parameters: Parameters) -> Job:
        correlation_id = parameters.correlationid or str(uuid.uuid4())
        job = Job(uuid.uuid4().hex[:16], kind, correlation_id, datetime.now(UTC))
        self._listener.check_job_fits(job)
        return job

    def _refuse_when_busy(self) -> None:
        if self._running:
            kind = self._running.job.kind.title()
            raise CommandError(409, EXECUTION_FAILED, f"{kind} operation is currently in progress!")

    def _admitted(self, job: Job, directory: Path, made: list[Path], task: Task[Result]) -> Admitted:
        def record() -> None:
            self._journal.job_started(job, directory, made)
            self._listener.job_changed(job)

        def begin() -> None:
            self._running = _RunningJob(job, task.tools)
            log.info(f"{job.kind} started", correlation_id=job.correlation_id, job=job.id, dir=str(directory))
            self._monitor.began(job)
            self._workers.start(task)

        return Admitted(job.id, record, begin)

    def _job_ended(
        self,
        job: Job,
        staged: Staged | None = None,
        remember: Action | None = None,
        **facts: object,
    ) -> None:
        try:
            self._record_end(job, staged, facts, remember)
        except sqlite3.Error:
            log.exception("the journal cannot be written: trying again", job=job.id)
            self._listener.job_ended_unrecorded(job)
            self._later(RECORD_AGAIN_S, partial(self._record_end_again, job, staged, facts, remember))
        self._running = None
        _log_end(job, facts)
        self._listener.settled()
        self._monitor.ended()

    def _record_end(self, job: Job, staged: Staged | None, facts: Facts, remember: Action | None) -> None:
        with self._journal.transaction():
            self._journal.job_ended(job, facts)
            self._listener.job_changed(job)
            if staged:
                self._uploads.add(staged, job.correlation_id)
            if remember:
                remember()

    def _record_end_again(
        self, job: Job, staged: Staged | None, facts: Facts, remember: Action | None
    ) -> None:
        """A job that still runs by the journal would be reported as interrupted after a restart."""
        try:
            self._record_end(job, staged, facts, remember)
        except sqlite3.Error:
            self._listener.withdrawn()
            self._later(RECORD_AGAIN_S, partial(self._record_end_again, job, staged, facts, remember))
            return
        log.info("the end of a job is in the journal now", job=job.id)
        self._listener.settled()


def _log_end(job: Job, facts: Facts) -> None:
    assert job.ended
    seconds = round((job.ended - job.started).total_seconds(), 3)
    about = {"correlation_id": job.correlation_id, "job": job.id, "seconds": seconds}
    if job.status_code:
        log.error(f"{job.kind} failed", code=job.status_code, reason=job.message, **about)
    else:
        note = {"note": job.message} if job.message else {}
        log.info(f"{job.kind} finished", **note, **about, **facts)
