"""All schedules of the device: Kanto's, and those by the clock. Belongs to the main thread.

The note `settled` of one by the clock is the last moment that was dealt with, as for periodic backups.

- Device off: the newest moment that has passed runs, once; the others are missed.
- A clock that was never set says nothing: the schedule waits until it is set.
- Clock put back by up to a day: what has run is not run again. Further: `settled` was a time that never was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from agent.base.clock import CLOCK_SET
from agent.base.clock_times import ClockTimes, cron_of, zone
from agent.jobs.foundation import Foundation
from agent.jobs.frame import Decision, device_offset
from agent.jobs.periodic import Periodic
from agent.jobs.schedule_record import ScheduleRecord, ScheduleState
from agent.jobs.store_ticks import MakeBackup, StoreTicks
from agent.settings.group_defaults import ScheduleSettings
from agent.settings.schedules import KANTO

MOST_COUNTED = 1000
"""Missed moments that are counted; further ones are not."""
_PUT_BACK = timedelta(days=1)
GRACE = timedelta(hours=1)
"""The time in which a backup that is due may end."""


@dataclass(frozen=True, slots=True)
class ClockPlan:
    """The moments of one schedule by the clock. Pure: times are arguments."""

    times: ClockTimes
    window: timedelta | None = None
    """How long a backup is tried again; None until the next moment."""
    rule: str = ""
    """The times and the time zone, as the settings say them."""

    def decide(self, settled: datetime | None, now: datetime) -> Decision:
        """Return what is due at `now`, when everything up to `settled` has been dealt with.

        A schedule without `settled` is new: its first moment is the next one.
        """
        if now < CLOCK_SET:
            return Decision(settled)
        went_back = settled is not None and settled - now > _PUT_BACK
        before = now if settled is None or went_back else settled
        tick = self.times.until(now)
        next_due = self.times.after(max(before, now))
        if tick is None or tick <= before:
            return Decision(before, clock_went_back=went_back, next_due=next_due)
        return Decision(tick, tick, self._between(before, tick), next_due=next_due)

    def _between(self, first: datetime, last: datetime) -> int:
        count, moment = 0, self.times.after(first)
        while moment is not None and moment < last and count < MOST_COUNTED:
            count, moment = count + 1, self.times.after(moment)
        return count

    def has_ended(self, _now: datetime) -> bool:
        return False


class Schedules:
    """Makes the backups of each schedule; `periodic` is Kanto's."""

    def __init__(
        self,
        base: Foundation,
        records: Mapping[str, Sequence[ScheduleRecord]],
        backup: MakeBackup,
    ) -> None:
        """`records` are those of `records_of`, by the names of the schedules."""
        self._base, self._backup = base, backup
        self.periodic = Periodic(base, records[KANTO], backup)
        self._by_clock = {name: self._ticks_of(name, each) for name, each in records.items() if name != KANTO}
        self._all = {KANTO: self.periodic.ticks, **self._by_clock}

    def _ticks_of(self, name: str, records: Sequence[ScheduleRecord]) -> StoreTicks:
        schedule = self._base.settings.schedules[name]
        plan = partial(self._plan, schedule)
        return StoreTicks(self._base, name, schedule, records, plan=plan, backup=self._backup)

    def _plan(self, schedule: ScheduleSettings) -> ClockPlan:
        return clock_plan(schedule, self._base.device.id)

    def begin(self) -> None:
        """Let ticks come from now on. Raises `JournalError`."""
        self.periodic.begin()
        self._base.staging.keep_shared(self._all)
        for ticks in self._by_clock.values():
            ticks.begin()

    def stop(self) -> None:
        """Begin nothing any more: the agent ends."""
        for ticks in self._all.values():
            ticks.stop()

    def cancelling(self, correlation_id: str) -> None:
        """Note that a person cancels the job with this id: it is not tried again."""
        for ticks in self._all.values():
            ticks.cancelling(correlation_id)

    def limit(self, success: datetime | None, now: datetime) -> datetime | None:
        """Return until when a good backup of this time is new enough: until the second one after it is due.

        Before its beginning a schedule could not have made one. None when no schedule says so.
        """
        found = [limit] if (limit := self.periodic.frame.limit(success, now)) else []
        for name, ticks in self._by_clock.items():
            times = self._plan(self._base.settings.schedules[name]).times
            begun = ticks.first.begun
            first = begun and times.after(max(success or begun, begun))
            if first and (second := times.after(first)):
                found.append(second + GRACE)
        return min(found, default=None)

    @property
    def next_run(self) -> tuple[datetime, str] | None:
        """Return time and schedule of the next backup; None for none. Raises `JournalError`."""
        due = ((ticks.first.next_due, name) for name, ticks in self._all.items())
        return min(((at, name) for at, name in due if at), default=None)

    def states(self) -> dict[str, ScheduleState]:
        """Return how each schedule stands, Kanto's only while it is active. Raises `JournalError`."""
        active = self.periodic.frame.active
        return {name: ticks.state() for name, ticks in self._all.items() if active or name != KANTO}


def clock_plan(schedule: ScheduleSettings, device_id: str) -> ClockPlan:
    expressions = (schedule.cron,) if schedule.cron else tuple(map(cron_of, schedule.times))
    times = ClockTimes(expressions, zone(schedule.timezone), device_offset(device_id, schedule.jitter))
    return ClockPlan(times, schedule.window or None, "; ".join((*expressions, schedule.timezone)))
