"""The ticks of one schedule, at each of its stores.

With several stores each has a backup, a record and tries of its own, one after the other: a store that is
down fails alone, and alone is tried again. The first backup makes the archive, the others send it
(`agent.save.shared`). Belongs to the main thread.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from agent.jobs.foundation import Foundation
from agent.jobs.schedule_record import ScheduleRecord, ScheduleState, store_state
from agent.jobs.ticks import Plan, Ticks
from agent.journal import Journal
from agent.mailbox import Action
from agent.settings.group_defaults import ScheduleSettings
from agent.settings.schedules import KANTO


@dataclass(frozen=True, slots=True)
class DueBackup:
    """The backup of one tick of a schedule, at one of its stores."""

    correlation_id: str
    schedule: str
    """Its name, also when that is `kanto`."""
    store: str
    """Empty for a pending upload."""
    tick: datetime


MakeBackup = Callable[[DueBackup], None]
"""Makes a backup. Raises `Refused` when it cannot begin now."""


def records_of(
    journal: Journal, name: str, schedule: ScheduleSettings, changed: Action
) -> list[ScheduleRecord]:
    """Return the records of a schedule, one for each store. `changed` is called after a change of one."""
    kept_as = "" if name == KANTO else name
    stores = schedule.store if len(schedule.store) > 1 else ("",)
    return [ScheduleRecord(journal, kept_as, store, changed) for store in stores]


class StoreTicks:
    def __init__(
        self,
        base: Foundation,
        name: str,
        schedule: ScheduleSettings,
        records: Sequence[ScheduleRecord],
        *,
        plan: Callable[[], Plan | None],
        backup: MakeBackup,
        begins_anew: Callable[[datetime], None] = lambda _now: None,
    ) -> None:
        """`records` are those of `records_of`. See `Ticks` for `plan` and `begins_anew`."""
        self._name, self._records = name, records
        self._staging, self._recorder, self._journal = base.staging, base.recorder, base.journal
        self._ticks = [
            Ticks(
                base,
                plan,
                record,
                backup=partial(self._back_up, backup, store),
                in_line=partial(self._others_run, record),
                begins_anew=begins_anew,
            )
            for record, store in zip(records, schedule.store or ("",), strict=True)
        ]
        self.first = self._ticks[0]
        """The ticks at the first store: they are due when those at the others are."""
        for record, ticks in zip(records, self._ticks, strict=True):
            # Later: the job that has ended must not be in the way of one that is due now.
            record.ended = partial(base.mailbox.post, partial(self._job_ended, ticks))

    def _back_up(self, backup: MakeBackup, store: str, correlation_id: str, tick: datetime) -> None:
        backup(DueBackup(correlation_id, self._name, store, tick))

    def _others_run(self, own: ScheduleRecord) -> bool:
        attempts = (record.read().attempt for record in self._records if record is not own)
        return any(attempt and attempt.correlation_id and not attempt.failed for attempt in attempts)

    def _job_ended(self, ticks: Ticks) -> None:
        ticks.look(at_once=True)
        self._recorder.record(self._remove_shared)

    def _remove_shared(self) -> None:
        """Remove the archive that no store waits for any more."""
        if not any(record.read().attempt for record in self._records):
            self._staging.remove_shared(self._name)

    def state(self) -> ScheduleState:
        """Return how the schedule stands. Raises `JournalError`."""
        stores = {record.store: store_state(self._journal, self._name, record) for record in self._records}
        return ScheduleState(self.first.next_due, stores)

    def begin(self) -> None:
        """Let ticks come from now on. Raises `JournalError`."""
        self._remove_shared()
        for ticks in self._ticks:
            ticks.begin()

    def stop(self) -> None:
        """Begin nothing any more: the agent ends."""
        for ticks in self._ticks:
            ticks.stop()

    def look(self) -> None:
        """Run what is due."""
        for ticks in self._ticks:
            ticks.look()

    def keep_new(self) -> None:
        """Note, in the open unit of work, that the plan is new: none of its ticks has been dealt with."""
        with self._journal.unit() as unit:
            for ticks in self._ticks:
                ticks.keep_new()
            unit.after_commit(self._remove_shared)

    def cancelling(self, correlation_id: str) -> None:
        """Note that a person cancels the job with this id: no store is tried again for this tick."""
        attempts = [record.read().attempt for record in self._records]
        if not any(attempt and attempt.correlation_id == correlation_id for attempt in attempts):
            return
        for record, attempt in zip(self._records, attempts, strict=True):
            if attempt and attempt.correlation_id == correlation_id:
                record.cancelling(correlation_id)
            else:
                record.give_up()
