"""One job at a time, a backup or a restore.

A command is admitted before anything is written; what was admitted is recorded, in the journal's
transaction together with the command, and then begun. Everything here runs in the main thread.
"""

import os
import sqlite3
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from agent.admission import Admission, Admitted, device_tag, metadata
from agent.backup.archive.survey import ArchiveLimits, Survey
from agent.backup.archive.writer import ArchiveOptions
from agent.backup.job import Job, Kind
from agent.backup.pipeline import (
    BackupOrder,
    BackupResult,
    RestoreOrder,
    backup,
    restore,
    summary,
)
from agent.backup.restore import RestoreOptions, missing
from agent.journal import Journal, Staged
from agent.messaging.ditto import EXECUTION_FAILED, CommandError
from agent.parameters import Parameters
from agent.settings import Settings
from agent.staging import Staging
from agent.worker import Outcome, Task, Tools, Workers

log = structlog.get_logger(__name__)

INTERRUPTED = "interrupted"

Result = TypeVar("Result")


class JobListener(Protocol):
    """Whoever tells the world. Called inside the journal's transaction, `settled` after it."""

    def check_request_fits(self, staged: Staged) -> None:
        """Raise `CommandError` 400 when the upload request of this archive could not be sent."""

    def job_changed(self, job: Job) -> None: ...
    def job_ended_unrecorded(self, job: Job) -> None:
        """The same when the journal cannot be written: told, but not kept."""

    def archive_staged(self, staged: Staged) -> None: ...
    def settled(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _RunningJob:
    job: Job
    tools: Tools


class Runner:
    def __init__(
        self, settings: Settings, journal: Journal, workers: Workers, listener: JobListener, staging: Staging
    ) -> None:
        self._settings, self._journal, self._workers, self._listener = settings, journal, workers, listener
        self._staging = staging
        self._admission = Admission(settings)
        self._running: _RunningJob | None = None

    @property
    def idle(self) -> bool:
        return self._running is None

    def stop(self, message: str) -> None:
        """Ask the job that runs to end; it will be reported as interrupted."""
        if self._running:
            self._running.tools.token.cancel(message, INTERRUPTED)

    # Backup

    def backup(self, parameters: Parameters, device_id: str) -> Admitted:
        """Admit a backup. Raises `CommandError` 400 or 409."""
        directory = self._admission.directory(parameters, must_exist=True)
        job, tools = self._new_job(Kind.BACKUP, parameters), self._tools()
        path = self._staging.free_path(device_tag(device_id))
        place = None
        staged = Staged(*self._child_of(job), path, 0, "", parameters.prefixed("options."))
        if parameters.provider:
            facts = metadata(job.correlation_id, device_id)
            place = self._admission.place(parameters, tools.connections, path.name, facts)
        else:
            self._listener.check_request_fits(staged)
        self._refuse_when_busy()
        archive = self._settings.archive
        order = BackupOrder(
            directory=directory,
            own_storage=self._settings.storage,
            staged=path,
            place=place,
            options=ArchiveOptions(
                archive.level, archive.dialect, archive.threads or min(os.cpu_count() or 1, 4)
            ),
            strict=self._settings.strict_backup,
            checksum=self._settings.checksum,
        )
        task = Task(
            owner=job.id,
            correlation_id=job.correlation_id,
            tools=tools,
            place=place,
            work=partial(backup, order),
            ended=partial(self._backup_ended, job, None if place else staged),
        )
        return self._admitted(job, directory, [], task)

    def _child_of(self, job: Job) -> tuple[str, str]:
        """A free child id for the job's correlation id, and that id."""
        taken = self._journal.staged()
        parent, number = job.correlation_id, 1
        while (child := f"{parent}#{number}") in taken:
            number += 1
        return child, parent

    def _backup_ended(self, job: Job, staged: Staged | None, outcome: Outcome[BackupResult]) -> None:
        result = outcome.result
        if result is None:
            self._job_ended(job.failed(datetime.now(UTC), outcome.code, outcome.message))
            return
        report = result.report
        ended = job.finished(datetime.now(UTC), summary(report))
        if staged:
            staged = replace(staged, size_bytes=result.size_bytes, sha256=result.sha256)
        self._job_ended(
            ended,
            staged,
            files=report.files, content_bytes=report.size_bytes, archive_bytes=result.size_bytes,
            sha256=result.sha256, place=result.stored.place if result.stored else str(staged and staged.path),
        )  # fmt: skip

    # Restore

    def restore(self, parameters: Parameters, device_id: str) -> Admitted:
        """Admit a restore. Raises `CommandError` 400 or 409."""
        directory = self._admission.directory(parameters, must_exist=False)
        job, tools = self._new_job(Kind.RESTORE, parameters), self._tools()
        limits = self._settings.restore
        options = RestoreOptions(
            mode=parameters.restore_mode,
            limits=ArchiveLimits(
                max_files=limits.max_files, max_bytes=limits.max_size, max_ratio=limits.max_ratio
            ),
            reserve_bytes=self._settings.storage_reserve,
            owner=limits.owner,
            special_bits=limits.special_bits,
        )
        place = self._admission.place(parameters, tools.connections, None)
        self._refuse_when_busy()
        made = missing(directory)
        download = self._staging.download(job.id)
        order = RestoreOrder(directory, made, download, place, device_tag(device_id), options)
        task = Task(
            owner=job.id,
            correlation_id=job.correlation_id,
            tools=tools,
            place=place,
            work=partial(restore, order),
            ended=partial(self._restore_ended, job),
        )
        return self._admitted(job, directory, made, task)

    def _restore_ended(self, job: Job, outcome: Outcome[Survey]) -> None:
        survey = outcome.result
        if survey is None:
            self._job_ended(job.failed(datetime.now(UTC), outcome.code, outcome.message))
            return
        self._job_ended(job.finished(datetime.now(UTC)), files=survey.files, content_bytes=survey.size_bytes)

    # Both

    def _new_job(self, kind: Kind, parameters: Parameters) -> Job:
        correlation_id = parameters.correlationid or str(uuid.uuid4())
        return Job(uuid.uuid4().hex[:16], kind, correlation_id, datetime.now(UTC))

    def _tools(self) -> Tools:
        return Tools(self._settings.transfer.connect_timeout.total_seconds())

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
            self._workers.start(task)

        return Admitted(job.id, record, begin)

    def _job_ended(self, job: Job, staged: Staged | None = None, **facts: object) -> None:
        try:
            with self._journal.transaction():
                self._journal.job_ended(job)
                self._listener.job_changed(job)
                if staged:
                    self._journal.stage(staged)
                    self._listener.archive_staged(staged)
        except sqlite3.Error:
            log.exception("the journal cannot be written", job=job.id)
            self._listener.job_ended_unrecorded(job)
        self._running = None
        _log_end(job, facts)
        self._listener.settled()


def _log_end(job: Job, facts: dict[str, object]) -> None:
    assert job.ended
    seconds = round((job.ended - job.started).total_seconds(), 3)
    about = {"correlation_id": job.correlation_id, "job": job.id, "seconds": seconds}
    if job.status_code:
        log.error(f"{job.kind} failed", code=job.status_code, reason=job.message, **about)
    else:
        note = {"note": job.message} if job.message else {}
        log.info(f"{job.kind} finished", **note, **about, **facts)
