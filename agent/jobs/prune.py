"""Retention: removes archives by the rules of the settings, once a day and for `edge-backup prune`.

It runs in its own worker, beside a job, and ends at once when the agent stops. Belongs to the main thread.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog

from agent.base.clock import CLOCK_SET
from agent.base.job import Kind, State
from agent.base.refusals import Reason, Refused
from agent.base.times import format_time, parse_time
from agent.jobs.admission import Admission
from agent.jobs.events import ArchiveRemoved
from agent.jobs.formats import prune_format
from agent.jobs.foundation import Foundation
from agent.jobs.operations import Tell
from agent.jobs.recurring import Recurring
from agent.jobs.requests.control import PruneRequest
from agent.jobs.requests.storage import StorageOptions, store_storage
from agent.jobs.task import Outcome, Task, Tools
from agent.jobs.verify import verdicts
from agent.journal import Journal, JournalError
from agent.journal.jobs import JobRecord
from agent.settings.group_defaults import StoreSettings
from agent.transfer.context import Context

if TYPE_CHECKING:
    from agent.save.pruning import Prunable, Pruned, PruneOrder, PruneOutcome
    from agent.save.retention import KeepRules

log = structlog.get_logger(__name__)

PERIOD = timedelta(days=1)
_DATES = "retention.dates"
_PROBLEMS = "retention.problems"
_CLOCK = "retention.clock"
"""The note of the clock's time at the last daily run."""
MOST_AHEAD = timedelta(days=30)
"""A clock further ahead of that note was put forward, or the device was off for long."""
ANSWER_WITHIN_S = 50.0
"""The time after which a local caller is told that the work goes on."""
MOST_DATES = 1000
"""The number of archives, those with the latest dates, whose retention date outlives their jobs."""

TellPruned = Callable[[Sequence["Pruned"]], None]


class Prunes:
    def __init__(self, base: Foundation) -> None:
        self._settings, self._journal, self._mailbox = base.settings, base.journal, base.mailbox
        self._workers, self._device, self._events = base.workers, base.device, base.events
        self._admission = Admission(base.settings)  # the worker's own
        self._daily = Recurring("prune", PERIOD, base.journal, base.mailbox, self._run_daily)
        self._running: Tools | None = None

    @property
    def idle(self) -> bool:
        return self._running is None

    def begin(self) -> None:
        """Look now, and from now on."""
        if self._journal.notes.read(_CLOCK) is None:
            self._note_clock()
        self._daily.begin()

    def stop(self, message: str) -> None:
        if self._running:
            self._workers.interrupt(self._running, message)

    def _run_daily(self) -> bool:
        if not self.idle:
            return False
        if self._rules() or self.dates():
            self._start(dry_run=False, told=self._told_daily)
        self._note_clock()
        return True

    def _note_clock(self) -> None:
        if (now := datetime.now(UTC)) >= CLOCK_SET:
            self._journal.notes.keep(_CLOCK, format_time(now))

    def _dates_by_clock(self) -> Mapping[str, datetime]:
        """Return the retention dates. After a leap of the clock since the last daily run none has passed.

        The clock may be wrong, and an archive that is removed is gone; a day later the clock is believed.
        """
        dates, now, noted = self.dates(), datetime.now(UTC), self._journal.notes.read(_CLOCK)
        if noted is None or now - parse_time(noted) <= MOST_AHEAD:
            return dates
        log.warning("clock leapt: retention dates ignored today", noted=noted)
        return {name: max(date, now + PERIOD) for name, date in dates.items()}

    def _told_daily(self, done: "Sequence[Pruned]") -> None:
        if any(destination.retryable for destination in done):
            self._daily.put_off()

    def prune(self, request: PruneRequest, _room_bytes: int, tell: Tell) -> None:
        """Begin now, and tell the result at the end. Raises `Refused` (BUSY) when it cannot begin."""
        if not self.idle:
            raise Refused(Reason.BUSY, "old archives are being removed right now")

        answered: list[bool] = []

        def answer(done: "Sequence[Pruned]", *, running: bool = False) -> None:
            if not answered:
                answered.append(True)
                timer.cancel()
                tell(
                    {"dryRun": request.dry_run, "running": running, "places": [asdict(each) for each in done]}
                )

        self._start(dry_run=request.dry_run, told=answer)
        timer = self._mailbox.call_later(ANSWER_WITHIN_S, partial(answer, [], running=True))

    def _start(self, *, dry_run: bool, told: TellPruned) -> None:
        from agent.save.pruning import PruneOrder

        with self._journal.unit() as unit:
            order = PruneOrder(
                own=self._device.archives,
                rules=self._rules(),
                dates=self._dates_by_clock(),
                verdicts=verdicts(self._journal),
                clock=lambda: datetime.now(UTC),
                dry_run=dry_run,
            )
            unit.after_commit(partial(self._begin, order, told))

    def _begin(self, order: "PruneOrder", told: TellPruned) -> None:
        self._running = tools = self._workers.tools()
        self._workers.start(
            Task(
                owner="prune",
                correlation_id="prune",
                tools=tools,
                work=partial(self._work, order, self._device.id, tools),
                ended=partial(self._ended, order, told),
            )
        )

    def _work(self, order: "PruneOrder", device_id: str, tools: Tools, context: Context) -> "PruneOutcome":
        """Prune all destinations, in the worker's thread: each may be slow to answer."""
        from agent.save.pruning import prune

        opened, absent = self._destinations(tools, device_id)
        outcome = prune(opened, order, context)
        return replace(outcome, places=[*outcome.places, *absent])

    def _ended(self, order: "PruneOrder", told: TellPruned, outcome: "Outcome[PruneOutcome]") -> None:
        from agent.save.pruning import Pruned

        self._running = None
        if outcome.result is None:
            log.warning("retention incomplete", code=outcome.code, reason=outcome.message)
            told([Pruned("all destinations", problem=outcome.message, retryable=True, failed=True)])
            return
        try:
            with self._journal.unit():
                self._journal.archives.learned(outcome.result.learned)
                if not order.dry_run:
                    self._journal.notes.keep(_PROBLEMS, json.dumps(outcome.result.problems()))
                for pruned in () if order.dry_run else outcome.result.places:
                    elsewhere = self._stores_elsewhere(pruned.place)
                    for name in pruned.removed:
                        self._journal.jobs.archive_removed(name, elsewhere)
                        self._events.emit(ArchiveRemoved(pruned.place, name))
        except JournalError:
            log.exception("retention not recorded: journal not writable")
        told(outcome.result.places)

    def problems(self) -> Mapping[str, str]:
        """Return by destination why old archives stayed at the last prune; none without retention."""
        found: dict[str, str] = json.loads(self._journal.notes.read(_PROBLEMS) or "{}")
        return found if found and (self._rules() or noted_dates(self._journal)) else {}

    def _destinations(self, tools: Tools, device_id: str) -> "tuple[dict[str, Prunable], list[Pruned]]":
        """Open the destinations that the device can use now; return them, and the problems of the others."""
        from agent.save.pruning import Prunable, Pruned

        opened: dict[str, Prunable] = {}
        absent = []
        for name, options in self._all_destinations().items():
            try:
                chosen = options()
                destination = self._admission.pruned(chosen, tools.connections, device_id)
                opened[name] = Prunable(destination, prune_format(chosen, self._settings, device_id))
            except Refused as error:
                log.debug("destination skipped by retention", destination=name, reason=error.message)
                busy = error.reason is Reason.BUSY
                absent.append(Pruned(name, problem=error.message, retryable=busy))
        return opened, absent

    def _all_destinations(self) -> dict[str, Callable[[], StorageOptions]]:
        """Return every target, every repository, and every store that is not a target by another name."""
        targets = {
            f"target {name}": partial(StorageOptions, "local", {"local.target": name})
            for name in self._settings.targets
        }
        stores = {
            _place_of(name, store): partial(store_storage, self._settings, name)
            for name, store in self._settings.stores.items()
            if not _is_target(store)
        }
        return {**targets, **stores}

    def _stores_elsewhere(self, place: str) -> list[str]:
        """Return the stores at other destinations: each may still have an archive of several stores."""
        return [name for name, store in self._settings.stores.items() if _place_of(name, store) != place]

    def _rules(self) -> "KeepRules":
        from agent.save.retention import KeepRules

        keep = self._settings.retention
        return KeepRules(
            keep.keep_last, keep.keep_daily, keep.keep_weekly, keep.keep_monthly, keep.emptied_percent
        )

    def dates(self) -> Mapping[str, datetime]:
        """Return retention dates by archive, and keep them for when the history has forgotten the jobs."""
        noted = noted_dates(self._journal)
        latest = retention_dates(noted, self._journal.jobs.ended_of(Kind.BACKUP))
        if latest != noted:
            self._journal.notes.keep(_DATES, json.dumps(latest))
        return {name: parse_time(text) for name, text in latest.items()}


def retention_dates(noted: Mapping[str, str], backups: Iterable[JobRecord]) -> Mapping[str, str]:
    """Return the latest retention dates by archive: those that were noted, and those of the backups."""
    dates = dict(noted)
    for record in backups:
        date = record.facts.get("retention_date")
        if date and record.state == State.FINISHED:
            # With skipUnchanged, two backups have one archive: the later date counts.
            archive = record.facts["archive"]
            dates[archive] = max(date, dates.get(archive, ""))
    return dict(sorted(dates.items(), key=lambda item: item[1])[-MOST_DATES:])


def noted_dates(journal: Journal) -> dict[str, str]:
    """Return retention dates by archive, as the last daily run has kept them."""
    return dict(json.loads(journal.notes.read(_DATES) or "{}"))


def _place_of(name: str, store: StoreSettings) -> str:
    """Return the destination of a store by its name for people: its target, or the store itself."""
    return f"target {store.options.get('local.target', 'device')}" if _is_target(store) else f"store {name}"


def _is_target(store: StoreSettings) -> bool:
    """Return True for a store that is a target by another name: no directory in it, and no repository."""
    is_plain = store.format == "zip" and "local.directory" not in store.options
    return store.provider == "local" and is_plain
