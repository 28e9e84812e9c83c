"""When a backup of a schedule by the clock is due. Pure, as `schedule`: times are arguments.

The note `settled` is the last moment that was dealt with, as for periodic backups.

- Device off: the newest moment that has passed runs, once; the others are missed.
- A clock that was never set says nothing: the schedule waits until it is set.
- Clock put back by up to a day: what has run is not run again. Further: `settled` was a time that never was.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.base.clock import CLOCK_SET
from agent.base.clock_times import ClockTimes
from agent.jobs.attempts import Attempt
from agent.jobs.schedule import Decision

MOST_COUNTED = 1000
"""Missed moments that are counted; further ones are not."""
_PUT_BACK = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ClockPlan:
    """The moments of one schedule."""

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

    def is_over(self, attempt: Attempt, now: datetime) -> bool:
        """Return True when the backup is not tried again."""
        return attempt.has_passed(self.window, now)
