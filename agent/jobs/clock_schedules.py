"""Schedules by the clock: each named one in the settings makes its backups. Belongs to the main thread."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.base.clock_times import ClockTimes, cron_of, zone
from agent.base.job import format_time
from agent.jobs.clock_plan import ClockPlan
from agent.jobs.foundation import Foundation
from agent.jobs.requests.backup import BackupRequest, scheduled_request
from agent.jobs.schedule import device_offset
from agent.jobs.schedule_record import ScheduleRecord, Standing
from agent.jobs.ticks import Ticks
from agent.settings import ScheduleSettings

GRACE = timedelta(hours=1)
"""The time in which a backup that is due may end."""


@dataclass(frozen=True, slots=True)
class ScheduleState:
    """How one schedule stands."""

    next_due: datetime | None
    missed: int
    last_error: str
    """The reason why its newest backup was refused; empty when it was not."""
    is_late: bool
    """True while a backup that was due is tried again."""

    def value(self) -> dict[str, object]:
        """Return it as a member of an answer."""
        return {
            "next": self.next_due and format_time(self.next_due),
            "missed": self.missed,
            "lastError": self.last_error,
            "late": self.is_late,
        }


class ClockSchedules:
    def __init__(
        self,
        base: Foundation,
        records: Mapping[str, ScheduleRecord],
        backup: Callable[[BackupRequest], None],
    ) -> None:
        """`records` by the names of the schedules. `backup` makes one backup, or raises `Refused`."""
        self._base, self._backup, self._records = base, backup, records
        self._ticks = {name: self._ticks_of(name, record) for name, record in records.items()}

    def _ticks_of(self, name: str, record: ScheduleRecord) -> Ticks:
        schedule = self._base.settings.schedules[name]

        def make(correlation_id: str) -> None:
            self._backup(scheduled_request(self._base.settings, schedule, correlation_id))

        return Ticks(self._base, lambda: self._plan(schedule), record, backup=make)

    def _plan(self, schedule: ScheduleSettings) -> ClockPlan:
        return clock_plan(schedule, self._base.device.id)

    def begin(self) -> None:
        """Let ticks come from now on. Raises `JournalError`."""
        for ticks in self._ticks.values():
            ticks.begin()

    def stop(self) -> None:
        """Begin nothing any more: the agent ends."""
        for ticks in self._ticks.values():
            ticks.stop()

    def limit(self, success: datetime | None) -> datetime | None:
        """Return until when a good backup of this time is new enough: until the second one after it is due.

        Before its beginning a schedule could not have made one. None when no schedule says so.
        """
        found = []
        for name, ticks in self._ticks.items():
            times = self._plan(self._base.settings.schedules[name]).times
            begun = ticks.begun
            first = begun and times.after(max(success or begun, begun))
            if first and (second := times.after(first)):
                found.append(second + GRACE)
        return min(found, default=None)

    def standings(self) -> list[Standing]:
        """Return what the journal keeps of each schedule. Raises `JournalError`."""
        return [record.read() for record in self._records.values()]

    def states(self) -> dict[str, ScheduleState]:
        """Return how each schedule stands, by name. Raises `JournalError`."""
        found = {}
        for name, ticks in self._ticks.items():
            standing = self._records[name].read()
            is_late = standing.attempt is not None and standing.attempt.failures > 0
            found[name] = ScheduleState(ticks.next_due, standing.missed, standing.refused, is_late)
        return found


def clock_plan(schedule: ScheduleSettings, device_id: str) -> ClockPlan:
    """Return the plan of a schedule on this device."""
    expressions = (schedule.cron,) if schedule.cron else tuple(map(cron_of, schedule.times))
    times = ClockTimes(expressions, zone(schedule.timezone), device_offset(device_id, schedule.jitter))
    return ClockPlan(times, schedule.window or None)
