"""The engine: jobs, uploads and the schedule over one journal, and the handler of each operation.

It knows no face: `agent.service` builds those around it. Belongs to the main thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

from agent.base.clock import BootClock
from agent.base.refusals import Reason, Refused
from agent.jobs.admission import Admitted
from agent.jobs.backup import Backups
from agent.jobs.confirmation import Confirmations
from agent.jobs.device import UNIDENTIFIED, Device
from agent.jobs.earlier_run import EarlierRun
from agent.jobs.events import Events, JobProgressed, Subscriber
from agent.jobs.formats import repository_remains
from agent.jobs.foundation import Foundation, Recorder
from agent.jobs.job_hooks import FailureHook
from agent.jobs.operations import CommandHandler, Operations, QuestionHandler, at_once
from agent.jobs.preview import Previews
from agent.jobs.preview_record import PreviewNotes
from agent.jobs.progress import JobProgress
from agent.jobs.prune import Prunes
from agent.jobs.queries.archive_lists import ArchiveLists
from agent.jobs.queries.archives import Archives
from agent.jobs.queries.health import Health
from agent.jobs.queries.history import History, MadeBackups
from agent.jobs.queries.info import Info
from agent.jobs.queries.status import Status
from agent.jobs.requests.backup import BackupRequest
from agent.jobs.requests.control import (
    ActivateRequest,
    CancelRequest,
    ConfirmRequest,
    DeactivateRequest,
    DescribeRequest,
    DiscardRequest,
    FinalizeRequest,
    HistoryRequest,
    InfoRequest,
    PruneRequest,
    StartRequest,
    StatusRequest,
    TriggerRequest,
)
from agent.jobs.requests.restore import ArchivesRequest, RestoreRequest, VerifyRequest
from agent.jobs.restore import Restores
from agent.jobs.restore_recovery import Recovered, Recovery
from agent.jobs.running_job import Runner
from agent.jobs.schedule_record import ScheduleRecord
from agent.jobs.schedules import Schedules
from agent.jobs.staging import OwnDirectories, Staging
from agent.jobs.store_ticks import DueBackup, records_of
from agent.jobs.upload_queue import Uploads
from agent.jobs.verify import Drills, Verifications
from agent.jobs.worker import Workers
from agent.journal import Journal
from agent.mailbox import Action, Mailbox
from agent.settings import Settings
from agent.settings.schedules import KANTO, schedule_of


class Engine:
    """The composition root of the engine; `subscribers` are told of its events."""

    def __init__(
        self,
        settings: Settings,
        mailbox: Mailbox,
        *,
        staging: Staging,
        journal: Journal,
        subscribers: tuple[Subscriber, ...],
        changed: Action = lambda: None,
    ) -> None:
        """Also recover the data of an earlier run. Raises OSError and `JournalError`.

        `changed` is called when the health of the backups may have changed without an event.
        """
        self._settings, self._journal = settings, journal
        records = {
            name: records_of(journal, name, schedule_of(settings, name), changed)
            for name in dict.fromkeys((KANTO, *settings.schedules))
        }
        events = Events(journal, (*chain(*records.values()), FailureHook(settings, journal), *subscribers))
        self._recorder = Recorder(mailbox.call_later)
        self._workers = Workers(journal, mailbox, settings.transfer, settings.job_timeout)
        self.progress = JobProgress(partial(events.emit, JobProgressed()))
        self.device, self.history = Device(journal), History(journal)
        base = Foundation(
            settings,
            mailbox,
            journal,
            staging,
            self.device,
            events,
            self._recorder,
            self._workers,
            self.progress,
            OwnDirectories(settings, journal),
        )
        notes = PreviewNotes(journal, BootClock())
        self._build_jobs(base, notes)
        self._build_routine(base, records, changed)
        self.status = Status(
            self.progress,
            self.history,
            notes,
            self.device,
            remains=partial(repository_remains, settings),
            retention=self.prunes.problems,
            schedules=self.schedules.states,
            uploads=self.uploads.waiting,
        )
        self._info = Info(settings, mailbox, self.progress, base.own, waiting=self.status.waiting)

    def _build_jobs(self, base: Foundation, notes: PreviewNotes) -> None:
        """Build what commands ask for, and recover the data before it."""
        settings = base.settings
        base.staging.remove_incomplete()
        recovery = Recovery(settings, base.journal, base.mailbox, self._recovered_late)
        recovered = recovery.begin(
            [target.path for target in settings.targets.values()],
            waiting=notes.after_start(keep=settings.restore.keep_preview),
        )
        self.uploads = Uploads(base)
        self._runner = Runner(base, recovery.directories)
        self._backups = Backups(base, self._runner, self.uploads.pending)
        self.confirmations = Confirmations(base)
        self._previews = Previews(base, self._runner, notes)
        self._restores = Restores(
            base,
            self._runner,
            confirmations=self.confirmations,
            previews=self._previews,
            notes=notes,
            recovery=recovery,
        )
        self._verifications = Verifications(base, self._runner)
        self.earlier_run = EarlierRun(
            base, recovered, runner=self._runner, restores=self._restores, uploads=self.uploads
        )
        self.archives = Archives(settings, base.journal, self.device)
        self._archive_lists = ArchiveLists(self.archives, base.mailbox)
        self.made = MadeBackups(base.journal, self.progress, self.device)

    def _recovered_late(self, recovered: Recovered) -> None:
        self.earlier_run.late(recovered)

    def _build_routine(
        self, base: Foundation, records: Mapping[str, Sequence[ScheduleRecord]], changed: Action
    ) -> None:
        """Build what happens without a command; `records` are those of each schedule, by name."""
        self.schedules = Schedules(base, records, self.scheduled_backup)
        self.drills = Drills(base, self._verifications, self.carry_out)
        self.prunes = Prunes(base)
        self.health = Health(
            base.journal,
            self.history,
            base.settings.rpo,
            base.mailbox.call_later,
            limit=self.schedules.limit,
            records=list(records.values()),
            changed=changed,
        )

    def operations(self) -> Operations:
        """Return the table of operations, each with its code."""
        busy = self._runner.refuse_second_job
        return Operations(
            self._settings,
            commands=(
                CommandHandler(BackupRequest, self._backups.backup, busy),
                CommandHandler(RestoreRequest, self._restores.restore, busy),
                CommandHandler(VerifyRequest, self._verifications.verify, busy),
                CommandHandler(StartRequest, self.uploads.start),
                CommandHandler(TriggerRequest, self.uploads.pending.trigger),
                CommandHandler(CancelRequest, self._cancel),
                CommandHandler(ActivateRequest, self.schedules.periodic.activate),
                CommandHandler(DeactivateRequest, self.schedules.periodic.deactivate),
                CommandHandler(FinalizeRequest, self._restores.finalize),
                CommandHandler(DiscardRequest, self._previews.discard),
                CommandHandler(ConfirmRequest, self.confirmations.confirm),
            ),
            questions=(
                QuestionHandler(StatusRequest, at_once(self.status.status)),
                QuestionHandler(HistoryRequest, at_once(self.history.history)),
                QuestionHandler(DescribeRequest, at_once(self.history.describe)),
                QuestionHandler(InfoRequest, self._info.info),
                QuestionHandler(ArchivesRequest, self._archive_lists.archives),
                QuestionHandler(PruneRequest, self.prunes.prune),
            ),
        )

    def _cancel(self, request: CancelRequest) -> Admitted:
        """Admit a cancel of the job, the uploads or the pending uploads with this id. Raises `Refused`."""
        request = replace(request, correlation_id=self._runner.correlation_id(request.correlation_id))
        workers = (self._runner, self.uploads)
        found = [worker for worker in workers if worker.running(request.correlation_id)]
        if not found:
            return self.uploads.cancel_waiting(request)

        def begin() -> None:
            for worker in found:
                worker.cancel(request)

        def record() -> None:
            # A cancel that was answered has to outlive a crash.
            self.confirmations.cancelling(request)
            self.schedules.cancelling(request.correlation_id)

        return Admitted(None, record, begin)

    def begin(self) -> None:
        """Take up the work of an earlier run."""
        self._recorder.record(self._settle_in)
        self.earlier_run.begin()

    def _settle_in(self) -> None:
        self.uploads.pending.adopt()
        self._previews.begin()

    def identified(self, device_id: str) -> None:
        """Note the device's id, report earlier jobs, and begin the periodic ones."""
        self.device.identify(device_id)
        self._recorder.record(self._begin_routine)

    def unidentified(self) -> None:
        """Begin the periodic jobs under the id that the device has, as nobody tells it another one."""
        self.device.problem = UNIDENTIFIED
        self._recorder.record(self._begin_routine)

    def _begin_routine(self) -> None:
        self.earlier_run.report()
        self.schedules.begin()
        self.device.keep()
        self.prunes.begin()
        self.drills.begin()

    def announced(self) -> None:
        """Request the pending uploads again: the twin knows the feature since now."""
        self._recorder.record(self.uploads.pending.ask_again)

    def scheduled_backup(self, due: DueBackup) -> None:
        """Make a backup of a schedule. Raises `Refused` when it cannot begin now."""
        self.carry_out(self._backups.scheduled(due))

    def carry_out(self, admitted: Admitted, accepted: Action = lambda: None) -> None:
        """Record an admitted command, call `accepted`, and begin its work.

        Raises `JournalError`, and then nothing has happened.
        """
        with self._journal.unit() as unit:
            unit.after_commit(accepted)
            admitted.record()
            unit.after_commit(admitted.begin)

    def refuse_beside_sdk(self) -> None:
        """Raise `Refused` (BUSY) while a job or an upload works with a large library: memory is short."""
        if self._runner.loads_sdk or self.uploads.loads_sdk:
            raise Refused(Reason.BUSY, "a job works with a cloud's library: ask again when it has ended")

    def idle(self) -> bool:
        work = (self._runner, self.uploads, self._previews, self.prunes)
        return all(each.idle for each in work)

    def stop_waiting(self, message: str) -> None:
        """Begin no periodic backup any more, and stop a restore that waits for its confirmation.

        Both go on after the next start.
        """
        self.schedules.stop()
        if self.confirmations.waiting:
            self._runner.stop(message)

    def interrupt(self, message: str) -> None:
        """Ask the job and the uploads to end; they are reported as interrupted."""
        self._runner.stop(message)
        self.uploads.stop(message)

    def stuck_workers(self, limit_s: float) -> list[str]:
        """Return the names of threads that were told to end longer than `limit_s` ago, and still run."""
        # After a cancel, an afterRestoreCmd has all of its time. An abandoned thread does no harm while other
        # work runs.
        hook_s = self._settings.hook_timeout.total_seconds()
        return self._workers.stuck(limit_s + hook_s, left_to_themselves=self.idle())
