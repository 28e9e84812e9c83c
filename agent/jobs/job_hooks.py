"""Commands of the device's owner around a backup, and after a job that failed.

The later commands run whatever becomes of the job. Its checkpoint says that the first ones have begun, so
after a crash the next start of the agent runs the later ones, also those of a restore.
"""

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import structlog

from agent.base.errors import Cancelled, JobError
from agent.base.job import STOPPED, Job, Kind, State
from agent.jobs.events import Event, JobEnded, Subscriber
from agent.jobs.task import INTERNAL_ERROR, INTERRUPTED
from agent.journal import Journal, Unit
from agent.settings import Settings
from agent.transfer.cancel import CancelToken
from agent.transfer.context import Context, RunHook
from providers.errors import StorageError

if TYPE_CHECKING:
    from agent.save.result import BackupResult

log = structlog.get_logger(__name__)

Work = Callable[[Context], "BackupResult"]
MAX_FAILURE_COMMANDS = 4
"""Commands after failures that run at the same time; one more is passed over."""
_ROOT = Path("/")


@dataclass(frozen=True, slots=True)
class Scope:
    """The schedule and the data sets of a backup: each may have commands of its own."""

    schedule: str = ""
    data_sets: tuple[str, ...] = ()

    def to_text(self) -> str:
        return json.dumps({"schedule": self.schedule, "dataSets": self.data_sets})

    @classmethod
    def from_text(cls, text: str) -> "Scope":
        value = json.loads(text)
        if isinstance(value, list):  # an earlier version kept the data sets alone
            return cls("", tuple(value))
        return cls(value["schedule"], tuple(value["dataSets"]))

    def commands(self, settings: Settings) -> Iterator[tuple[str, str, str]]:
        """Yield the prefix of the settings, and the commands before and after a backup; outermost first."""
        yield "", settings.before_backup_cmd, settings.after_backup_cmd
        if schedule := settings.schedules.get(self.schedule):
            yield f"schedules.{self.schedule}.", schedule.before_backup_cmd, schedule.after_backup_cmd
        for name in dict.fromkeys(self.data_sets):
            if of_set := settings.data_sets.get(name):
                yield f"dataSets.{name}.", of_set.before_backup_cmd, of_set.after_backup_cmd


@dataclass(frozen=True, slots=True)
class BackupHooks:
    """The commands around one backup.

    Those of the device are around those of the schedule, and these around those of the data sets.
    """

    settings: Settings
    job: Job
    directory: Path
    scope: Scope

    def around(self, work: Work) -> Work:
        """Return the work with the commands around it.

        A command that fails before the backup fails it. One that fails afterwards adds a note to the result.
        """
        if not any(before or after for _, before, after in self.scope.commands(self.settings)):
            return work

        def surrounded(context: Context) -> "BackupResult":
            code, problems = INTERNAL_ERROR, list[str]()
            context.checkpoint[STOPPED] = self.scope.to_text()
            try:
                self._run_before(context.token)
                result, code = work(context), ""
            except Cancelled:
                code = context.token.code
                raise
            except (JobError, StorageError) as error:
                code = error.code
                raise
            finally:
                problems += self.run_after(code)
                context.checkpoint.pop(STOPPED, None)
            return replace(result, note="; ".join(problems))

        return surrounded

    def _run_before(self, token: CancelToken) -> None:
        for of, command, _ in self.scope.commands(self.settings):
            if run := hook(self.settings, f"{of}beforeBackupCmd", command, self.job, self.directory):
                run(_there(self.directory), token)

    def run_after(self, code: str) -> list[str]:
        """Run the later commands, which are told the status code of the backup; return what failed.

        Each has all of its time, also after a cancel.
        """
        facts, problems = {"EDGE_BACKUP_STATUS_CODE": code}, []
        for of, _, command in reversed(list(self.scope.commands(self.settings))):
            name = f"{of}afterBackupCmd"
            try:
                if run := hook(self.settings, name, command, self.job, self.directory, facts=facts):
                    run(_there(self.directory), CancelToken())
            except JobError as error:
                log.exception("hook after the backup failed")
                problems.append(str(error))
        return problems


class FailureHook(Subscriber):
    """Runs the owner's commands after each job that failed. A subscriber of events."""

    def __init__(self, settings: Settings, journal: Journal) -> None:
        self._settings, self._journal = settings, journal
        self._places = threading.BoundedSemaphore(MAX_FAILURE_COMMANDS)

    def tell(self, event: Event, unit: Unit) -> None:
        if isinstance(event, JobEnded) and event.kept and event.job.state is State.FAILED:
            unit.after_commit(partial(self._begin, event.job, "", self._settings.on_failure_cmd))
            name = self._journal.jobs.fact(event.job.id, "schedule")
            if schedule := self._settings.schedules.get(str(name)):
                of = f"schedules.{name}."
                unit.after_commit(partial(self._begin, event.job, of, schedule.on_failure_cmd))

    def _begin(self, job: Job, of: str, command: str) -> None:
        facts = {"EDGE_BACKUP_STATUS_CODE": job.status_code, "EDGE_BACKUP_MESSAGE": job.message}
        run = hook(self._settings, f"{of}onFailureCmd", command, job, facts=facts)
        if run is None:
            return
        if not self._places.acquire(blocking=False):
            log.warning("onFailureCmd not run: too many of them run", job=job.id)
            return
        threading.Thread(target=self._run, args=(run,), name=f"on-failure-{job.id}", daemon=True).start()

    def _run(self, run: RunHook) -> None:
        try:
            run(_ROOT, CancelToken())
        except JobError:
            log.exception("onFailureCmd failed")
        finally:
            self._places.release()


def hook(
    settings: Settings,
    name: str,
    command: str,
    job: Job,
    target: Path | None = None,
    *,
    facts: Mapping[str, str] = MappingProxyType({}),
) -> RunHook | None:
    """Return the command in the setting `name`, ready to be run for `job`; None when there is none.

    Its environment has the operation, the correlation id, the directory or the `target` of a restore, and
    further `facts`.
    """
    from agent.hooks import Hook, run_hook

    if not command:
        return None
    prepared = Hook(name, command, settings.hook_timeout.total_seconds())

    def run(directory: Path, token: CancelToken) -> None:
        environment = {
            "EDGE_BACKUP_OPERATION": job.kind,
            "EDGE_BACKUP_CORRELATION_ID": job.correlation_id,
            "EDGE_BACKUP_DIRECTORY": os.fspath(target or directory),
            **facts,
        }
        run_hook(prepared, directory, environment, token)

    return run


def start_again(settings: Settings, job: Job, target: Path) -> Callable[[Context], None]:
    """Return work that runs what has to follow a job which was interrupted after its first command."""

    def work(context: Context) -> None:
        if job.kind is Kind.BACKUP:
            scope = Scope.from_text(context.checkpoint[STOPPED])
            BackupHooks(settings, job, target, scope).run_after(INTERRUPTED)
        else:
            _after_restore(settings, job, target, context.token)
        if not context.token.interrupted:
            context.checkpoint.pop(STOPPED, None)

    return work


def _after_restore(settings: Settings, job: Job, target: Path, token: CancelToken) -> None:
    after = hook(settings, "afterRestoreCmd", settings.after_restore_cmd, job, target)
    try:
        if after:
            # A directory that the restore had made is gone again.
            after(_there(target), token)
    except JobError:
        log.exception("afterRestoreCmd failed after an interrupted restore", job=job.id)


def _there(directory: Path) -> Path:
    return directory if directory.is_dir() else _ROOT
