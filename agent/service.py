"""The composition root: builds everything, starts it, stops it in order."""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence

import structlog

from agent import __version__, notify
from agent.base.allocator import keep_small
from agent.faces.ditto.duplicate_agent import DuplicateAgents
from agent.faces.ditto.feature import Feature
from agent.faces.ditto.mqtt_session import MqttSession
from agent.faces.ditto.poison_commands import PoisonCommands
from agent.faces.ditto.redelivery import Redeliveries
from agent.faces.ditto.twin_messages import Twin
from agent.faces.ditto.twin_updates import ROOM_BYTES, SCHEDULE_ROOM_BYTES, StatusFeature
from agent.faces.http.api.context import Api
from agent.faces.http.api.event_log import EventLog
from agent.faces.http.api.handles import Handles
from agent.faces.http.api.reading import Reads
from agent.faces.http.engine_gate import EngineGate
from agent.faces.http.server import HttpServer
from agent.faces.metrics import Metrics
from agent.faces.service_status import ServiceStatus
from agent.guard import Guard
from agent.jobs.engine import Engine
from agent.jobs.events import Event, Subscriber
from agent.jobs.queries.destinations import Destinations
from agent.jobs.staging import Staging, StorageUnusable
from agent.journal import Journal, JournalError, Unit
from agent.journal.schema import NewerJournal
from agent.log import reopen as reopen_logs
from agent.log import setup as set_up_logging
from agent.mailbox import Mailbox
from agent.mqtt.link import Broker, broker_of
from agent.mqtt.outbox import Outbox
from agent.settings import Settings
from agent.settings.sources import Notice
from agent.watchdog import Watchdog, interval_s, mailbox_limit_s

log = structlog.get_logger(__name__)

STOPPED = "the agent was stopped"
GOODBYE_S = 2.0
"""How long a stop waits for the last messages, and for workers that were told to end."""
LOOK_AGAIN_S = 0.02
EXIT_BROKEN = 1
SWITCH_INTERVAL_S = 0.0005
"""How long one thread may hold the interpreter while another waits; Python's default is ten times that."""


class Service:
    """One agent: its parts, put together. Everything runs in the thread that calls `run`."""

    def __init__(self, settings: Settings, feed_guard: Callable[[], None]) -> None:
        """Open storage and journal and bring the data into order.

        Raises `StorageUnusable`, `NewerJournal`, and OSError or JournalError when the disk refuses.
        """
        self._settings = settings
        self.mailbox = Mailbox()
        self.staging = Staging(settings.storage)
        self.journal = Journal(self.staging.journal, kept_jobs=settings.journal_max_jobs)
        self.journal.when_broken(_end_without_journal)
        self.outbox = Outbox(self.journal.outbox)
        self.twin = Twin(settings, self.journal, self.outbox)
        self.events = EventLog()
        self.engine = Engine(
            settings,
            self.mailbox,
            staging=self.staging,
            journal=self.journal,
            subscribers=(self.twin, self.events, _Refresher(self._something_changed)),
            changed=self._something_changed,
        )
        self.twin.frame = self.engine.schedules.periodic.frame
        self.events.running_job = self.engine.progress.value
        self._stopping = False
        self._build_faces()
        self._watchdog = Watchdog(
            self.mailbox,
            feed=feed_guard,
            link_alive=lambda: self.session.alive,
            stuck_workers=self.engine.stuck_workers,
        )

    def _build_faces(self) -> None:
        """Build the faces, by which the engine is asked and heard of: the twin's features, HTTP, metrics."""
        settings, engine = self._settings, self.engine
        operations = engine.operations()
        self.status = StatusFeature(
            settings,
            self.mailbox,
            self.outbox,
            thing=lambda: self.twin.thing,
            properties=lambda: {
                "job": engine.status.job(ROOM_BYTES),
                "health": engine.health.value(),
                **engine.status.schedule(SCHEDULE_ROOM_BYTES),
            },
        )
        self.service_status = ServiceStatus(
            self.mailbox,
            job=engine.progress.value,
            uploading=lambda: not engine.uploads.idle,
            next_run=lambda: engine.schedules.next_run,
        )
        self._metrics = Metrics(
            settings.metrics.textfile, self.mailbox, engine.health, engine.history, engine.schedules.states
        )
        gate = EngineGate(self.mailbox.post, operations, engine.carry_out)
        self.http = HttpServer(
            settings,
            Api(
                settings,
                gate,
                engine,
                self.events,
                Destinations(settings),
                Reads(),
                Handles(self.mailbox.call_later),
            ),
            self._metrics.text,
            self.mailbox.call_later,
        )
        duplicates = DuplicateAgents(settings.feature_id)
        feature = Feature(
            settings,
            self.journal,
            self.outbox,
            self.twin,
            redeliveries=Redeliveries(self.journal, settings.dedupe_window.total_seconds()),
            poison=PoisonCommands(self.staging.lock),
            duplicates=duplicates,
            operations=operations,
        )
        self.session = MqttSession(
            settings,
            self._broker(),
            self.mailbox,
            twin=self.twin,
            outbox=self.outbox,
            receive=feature.receive,
            identified=self.identified,
            unidentified=self.engine.unidentified,
            announced=self._announced,
            stated=self.service_status.connection,
            idle=self.engine.idle,
            duplicates=duplicates,
        )
        feature.inbox.deleted = self.session.deleted

    def _broker(self) -> Broker:
        client_id = self._settings.client_id or f"edge-backup-{self.journal.notes.random('client_id')}"
        return broker_of(self._settings, client_id)

    def run(self) -> int:
        """Serve until a signal; the exit status."""
        # A worker that computes must not keep a command waiting for its answer.
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.mailbox.post(self.stop))
        signal.signal(signal.SIGHUP, lambda *_: self.mailbox.post(_reopen_logs))
        self.mailbox.post(self._watchdog.begin)
        self.mailbox.post(self._look_at_journal)
        self.serve()
        log.info("agent stopped")
        return 0

    def serve(self) -> None:
        """Do what is asked for until `stop`, which a thread that is not this one has to post."""
        self.engine.begin()
        self._something_changed()
        self.session.begin()
        self.http.open()
        notify.ready()
        self.mailbox.run()
        self.session.end()
        self.events.close()
        self.http.close()
        self.close()

    def close(self) -> None:
        """Let go of the storage, so that another agent may take it."""
        self.journal.close()
        self.staging.close()

    def _something_changed(self) -> None:
        self.engine.health.look()
        self.status.changed()
        self.service_status.changed()
        self._metrics.changed()

    def identified(self) -> None:
        """Tell the engine who the device is."""
        assert self.twin.identity
        self.engine.identified(self.twin.identity.device_id)

    def _announced(self) -> None:
        self.status.connected()
        self.engine.announced()

    def _look_at_journal(self) -> None:
        self.journal.check()
        self.mailbox.call_later(interval_s(), self._look_at_journal)

    def stop(self) -> None:
        """Let what runs end, for at most `stopTimeout`, then tell it to; say the last words; return."""
        if self._stopping:
            return
        self._stopping = True
        log.info("agent stopping", limit_s=self._settings.stop_timeout.total_seconds())
        notify.stopping()
        self.session.stop_listening()
        self.engine.prunes.stop(STOPPED)
        self.engine.stop_waiting(STOPPED)
        self._wait_until(self.engine.idle, self._settings.stop_timeout.total_seconds(), self._interrupt)

    def _interrupt(self) -> None:
        self.engine.interrupt(STOPPED)
        self._wait_until(self.engine.idle, GOODBYE_S, self._say_goodbye)

    def _say_goodbye(self) -> None:
        self._wait_until(lambda: self.outbox.empty or not self.session.online, GOODBYE_S, self.mailbox.stop)

    def _wait_until(self, condition: Callable[[], bool], limit_s: float, then: Callable[[], None]) -> None:
        """Call `then` when the condition holds, or the limit is reached; the mailbox goes on meanwhile."""
        deadline_s = time.monotonic() + limit_s

        def look() -> None:
            if condition() or time.monotonic() >= deadline_s:
                then()
            else:
                self.mailbox.call_later(LOOK_AGAIN_S, look)

        look()


def _end_without_journal(problem: str) -> None:
    """End at once, so that the next start recovers: what is answered now would be forgotten then."""
    log.critical("journal not usable, exiting", reason=problem)
    os._exit(EXIT_BROKEN)


def _reopen_logs() -> None:
    reopen_logs()
    log.info("log file reopened; settings are not read again", signal="SIGHUP")


class _Refresher(Subscriber):
    """Subscriber for all that shows how things stand: it looks again when something has happened."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look

    def tell(self, _event: Event, unit: Unit) -> None:
        unit.after_commit(self._look)


def run(settings: Settings, notices: Sequence[Notice]) -> int:
    """Run an agent with these settings until it is told to stop; the exit status."""
    keep_small()
    guard = Guard(mailbox_limit_s())
    set_up_logging(settings)
    log.info("agent started", version=__version__)
    if os.getpid() == 1:
        log.warning("agent is process 1: start it under an init, such as tini or 'docker run --init'")
    for notice in notices:
        log.log(logging.getLevelNamesMapping()[notice.level.upper()], notice.text)
    try:
        service = Service(settings, guard.feed)
    except (StorageUnusable, NewerJournal) as error:
        log.error(str(error))
        return 1
    except OSError as error:
        log.error(f"storage '{settings.storage}' cannot be used: {os.strerror(error.errno or 0)}")
        return 1
    except JournalError as error:
        code = getattr(error, "sqlite_errorname", "unknown error")
        log.error(f"storage '{settings.storage}' cannot be used: its journal cannot be opened ({code})")
        return 1
    return service.run()
