"""Attempts: the backup of a tick is tried again until it succeeds or the next tick is due. Pure.

The waits between tries grow to 15 minutes. They are measured from the time of the last failure, so that a
clock that jumps ends a wait early and never makes it longer.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from agent.jobs.frame import Decision

BACK_OFF = tuple(timedelta(minutes=minutes) for minutes in (1, 2, 4, 8, 15))
"""Waits after the first failure, the second and so on; the last one repeats."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The backup of one tick, which has not succeeded yet."""

    tick: datetime
    correlation_id: str = ""
    """The correlation id of the newest job that was begun for the tick."""
    failures: int = 0
    failed: datetime | None = None
    """Time of the last failure, or since when it waits in line; None while a job runs for the tick."""
    cancelled: bool = False
    """True when a person has cancelled the job that runs: its end is final."""
    since: datetime | None = None
    """When it was tried for the first time; None when nobody knows."""

    def begun(self, correlation_id: str, now: datetime) -> "Attempt":
        since = self.since if self.failures else now
        return replace(self, correlation_id=correlation_id, failed=None, since=since)

    def failed_at(self, now: datetime) -> "Attempt":
        return replace(self, failures=self.failures + 1, failed=now)

    def has_passed(self, window: timedelta | None, now: datetime) -> bool:
        """Return True when it was first tried longer ago than `window`; None is no limit."""
        return window is not None and now >= (self.since or self.tick) + window

    @property
    def in_line(self) -> bool:
        """Return True while it waits for its first turn: another store of the schedule has its backup."""
        return self.failed is not None and not self.failures

    def waiting(self, now: datetime) -> "Attempt":
        """Return the attempt, in line since `now` for the backup of another store: that is no failure."""
        return replace(self, failed=now)

    def next_try(self, now: datetime) -> datetime | None:
        """Return when the next try is due; None while a job runs."""
        if self.failed is None:
            return None
        if now < self.failed:
            return now
        # In line it has not failed yet. The end of the other backup wakes it, so the longest wait will do.
        number = min(self.failures or len(BACK_OFF), len(BACK_OFF))
        return self.failed + BACK_OFF[number - 1]


@dataclass(frozen=True, slots=True)
class Step:
    """The next step of the attempts after a decision of the schedule."""

    attempt: Attempt | None
    """The attempt that goes on; the new one when a tick is due."""
    begin: bool = False
    """True when its backup is to begin now."""
    missed: int = 0
    """Ticks that are given up: nobody tries them again."""


def next_step(
    decision: Decision,
    attempt: Attempt | None,
    now: datetime,
    *,
    is_over: bool = False,
    at_once: bool = False,
) -> Step:
    """Return what follows from `decision` when `attempt` has been going on.

    With `is_over` it is given up, with `at_once` its next try does not wait.
    """
    if decision.clock_went_back:
        attempt = None  # its tick was a time that never was
    waiting = attempt is not None and attempt.failed is not None
    if decision.tick:
        return Step(Attempt(decision.tick, since=now), begin=True, missed=decision.missed + waiting)
    if attempt is None or not waiting:
        return Step(attempt, missed=decision.missed)
    if is_over and not attempt.in_line:
        return Step(None, missed=decision.missed + 1)
    due = attempt.next_try(now)
    return Step(attempt, begin=at_once or (due is not None and due <= now), missed=decision.missed)


def wake_at(decision: Decision, attempt: Attempt | None, now: datetime) -> datetime | None:
    """Return when the next decision is due; None when nothing is to come."""
    times = (decision.next_due, attempt.next_try(now) if attempt else None)
    return min((when for when in times if when), default=None)
