"""The composition root: builds everything, starts it, stops it in order."""

import logging
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from agent import __version__, notify
from agent.allocator import keep_small
from agent.cancelling import cancel
from agent.fatal import FatalCommands
from agent.feature import Feature, Operation
from agent.handover import Handover
from agent.journal import Journal, NewerJournal
from agent.log import setup as set_up_logging
from agent.mailbox import Mailbox
from agent.messaging.ditto import EXECUTION_FAILED, CommandError
from agent.messaging.link import Broker
from agent.messaging.outbox import Outbox
from agent.parameters import Parameters
from agent.periodic import Periodic
from agent.presence import Presence
from agent.recovery import recover_data
from agent.redelivery import Redeliveries
from agent.rivals import Rivals
from agent.runner import Runner
from agent.settings import Settings
from agent.settings_sources import Notice
from agent.staging import Staging, StorageInUse
from agent.twin import Twin
from agent.uploads import Uploads
from agent.watchdog import Watchdog
from agent.worker import Workers

log = structlog.get_logger(__name__)

STOPPED = "the agent was stopped"
GOODBYE_S = 2.0
"""How long a stop waits for the last messages, and for workers that were told to end."""
LOOK_AGAIN_S = 0.02
SWITCH_INTERVAL_S = 0.0005
"""How long one thread may hold the interpreter while another waits; Python's default is ten times that."""


class Service:
    """One agent. Everything runs in the thread that calls `run`."""

    def __init__(self, settings: Settings) -> None:
        """Open storage and journal and bring the data into order.

        Raises `StorageInUse`, `NewerJournal`, and OSError or sqlite3.Error when the disk does not allow it.
        """
        self._settings = settings
        self._mailbox = Mailbox()
        self._staging = Staging(settings.storage)
        self._journal = Journal(self._staging.journal, kept_jobs=settings.journal_max_jobs)
        self._recovered = recover_data(
            self._journal, self._staging, [target.path for target in settings.targets.values()]
        )
        self._outbox = Outbox(self._journal)
        self._twin = Twin(settings, self._journal, self._outbox)
        workers = Workers(self._journal, self._mailbox, settings.transfer, settings.job_timeout)
        self._uploads = Uploads(
            settings,
            self._journal,
            workers,
            handover=Handover(self._journal),
            staging=self._staging,
            listener=self._twin,
            post=self._mailbox.post,
        )
        self._runner = Runner(
            settings,
            self._journal,
            workers,
            staging=self._staging,
            uploads=self._uploads,
            listener=self._twin,
            later=self._mailbox.call_later,
        )
        self._periodic = Periodic(
            settings, self._journal, self._mailbox, listener=self._twin, backup=self._periodic_backup
        )
        self._twin.auto_upload = self._periodic.auto_upload
        operations: dict[str, Operation] = {
            "backup": self._runner.backup,
            "restore": self._runner.restore,
            "start": self._uploads.start,
            "trigger": self._uploads.trigger,
            "cancel": partial(cancel, [self._runner, self._uploads]),
            "activate": self._periodic.activate,
            "deactivate": self._periodic.deactivate,
        }
        rivals = Rivals(settings.feature_id)
        feature = Feature(
            settings,
            self._journal,
            self._outbox,
            self._twin,
            redeliveries=Redeliveries(self._journal, settings.dedupe_window.total_seconds()),
            fatal=FatalCommands(self._staging.lock),
            rivals=rivals,
            operations=operations,
        )
        self._presence = Presence(
            settings,
            self._broker(),
            self._mailbox,
            twin=self._twin,
            outbox=self._outbox,
            receive=feature.receive,
            identified=self._identified,
            announced=self._uploads.ask_again,
            rivals=rivals,
        )
        patience_s = settings.hook_timeout.total_seconds()
        self._watchdog = Watchdog(
            self._mailbox,
            link_alive=lambda: self._presence.alive,
            stuck_workers=lambda limit_s: workers.stuck(
                # An afterRestoreCmd that is run after a cancel may take its time. A thread whose work has
                # ended without it does no harm: it is not worth the work of others.
                limit_s + patience_s,
                left_to_themselves=self._idle(),
            ),
        )
        self._stopping = False
        self._reported = False

    def _broker(self) -> Broker:
        settings, address = self._settings, self._settings.broker
        return Broker(
            address.host,
            address.port,
            tls=address.tls,
            client_id=settings.client_id or f"edge-backup-{self._journal.remembered('client_id')}",
            username=settings.username,
            password=settings.password.get_secret_value(),
            password_file=settings.password_file,
            ca_file=settings.ca_cert,
            cert_file=settings.cert,
            key_file=settings.key,
        )

    def run(self) -> int:
        """Serve until a signal; the exit status."""
        # A worker that computes must not keep a command waiting for its answer.
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._mailbox.post(self.stop))
        self._uploads.adopt()
        self._runner.start_again(self._recovered.stopped)
        self._presence.begin()
        notify.ready()
        self._watchdog.begin()
        self._mailbox.run()
        self._presence.end()
        self._journal.close()
        self._staging.close()
        log.info("stopped")
        return 0

    def _identified(self) -> None:
        """Say what became of earlier jobs, and begin with the periodic ones."""
        self._report_recovered()
        self._periodic.begin(self._twin.identity.device_id)

    def _periodic_backup(self) -> None:
        if self._settings.single_upload and not self._uploads.idle:
            raise CommandError(409, EXECUTION_FAILED, "an upload is in progress, and singleUpload is set")
        admitted = self._runner.backup(Parameters(), self._twin.identity.device_id)
        with self._journal.transaction():
            admitted.record()
        self._twin.settled()
        admitted.begin()

    def _report_recovered(self) -> None:
        """Say what became of the jobs that an earlier run of the agent did not see to their end."""
        if self._reported:  # another identity later on: what runs now is not interrupted
            return
        self._reported = True
        with self._journal.transaction():
            for job in self._recovered.ended:
                log.warning("job of an earlier run", job=job.id, state=job.state, reason=job.message)
                self._journal.job_ended(job)
                self._twin.job_changed(job)
            self._uploads.report_interrupted()

    def stop(self) -> None:
        """Let what runs end, for at most `stopTimeout`, then tell it to; say the last words; return."""
        if self._stopping:
            return
        self._stopping = True
        log.info("stopping", limit_s=self._settings.stop_timeout.total_seconds())
        notify.stopping()
        self._presence.stop_listening()
        self._wait_until(self._idle, self._settings.stop_timeout.total_seconds(), self._interrupt)

    def _idle(self) -> bool:
        return self._runner.idle and self._uploads.idle

    def _interrupt(self) -> None:
        self._runner.stop(STOPPED)
        self._uploads.stop(STOPPED)
        self._wait_until(self._idle, GOODBYE_S, self._say_goodbye)

    def _say_goodbye(self) -> None:
        self._wait_until(
            lambda: self._outbox.empty or not self._presence.online, GOODBYE_S, self._mailbox.stop
        )

    def _wait_until(self, condition: Callable[[], bool], limit_s: float, then: Callable[[], None]) -> None:
        """Call `then` when the condition holds, or the limit is reached; the mailbox goes on meanwhile."""
        deadline_s = time.monotonic() + limit_s

        def look() -> None:
            if condition() or time.monotonic() >= deadline_s:
                then()
            else:
                self._mailbox.call_later(LOOK_AGAIN_S, look)

        look()


def run(settings: Settings, notices: Sequence[Notice]) -> int:
    """Run an agent with these settings until it is told to stop; the exit status."""
    keep_small()
    set_up_logging(settings)
    log.info("edge-backup", version=__version__)
    for notice in notices:
        log.log(logging.getLevelNamesMapping()[notice.level.upper()], notice.text)
    try:
        service = Service(settings)
    except (StorageInUse, NewerJournal) as error:
        log.error(str(error))
        return 1
    return service.run()
