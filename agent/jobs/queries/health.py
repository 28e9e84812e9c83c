"""The health of the backups, by which a fleet's operator finds devices that are not well protected.

Everything is in the journal, so it survives restarts. Belongs to the main thread.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.base.job import State
from agent.base.times import NEVER_IN_ORDER, format_time, parse_time
from agent.jobs.queries.history import History
from agent.jobs.schedule_record import ScheduleRecord
from agent.journal import LAST_SUCCESS, LAST_VERIFIED, Journal
from agent.mailbox import Action, Timer

_HOUR_S = 3600
_ALWAYS = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Facts:
    """Times are None for what has never been."""

    last_success: datetime | None
    """The end of the last backup that succeeded."""
    last_verified: datetime | None
    last_error: str
    """The reason why the schedule's newest backup was refused; else the code of the newest job that failed,
    unless one of its kind ended well since."""
    missed: int
    """Scheduled backups in a row that were missed."""
    age: timedelta | None
    """The age of the last success."""
    rpo_violated: bool


class Health:
    def __init__(
        self,
        journal: Journal,
        history: History,
        rpo: timedelta | None,
        later: Callable[[float, Action], Timer],
        *,
        limit: Callable[[datetime | None, datetime], datetime | None],
        records: Sequence[Sequence[ScheduleRecord]],
        changed: Action,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`records` are those of every schedule, one for each store.

        `rpo` is how old the last good backup may become: zero for any age, None for what the schedules say by
        `limit`, as `Schedules.limit`. `changed` is called when the value has changed by the passing of time.
        """
        self._journal, self._history = journal, history
        self._rpo, self._later, self._now = rpo, later, now
        self._scheduled_limit, self._records = limit, records
        self._changed = changed
        self._waits_for: tuple[datetime | None, datetime | None] = None, None
        self._timer: Timer | None = None

    def facts(self) -> Facts:
        success = _time(self._journal.notes.read(LAST_SUCCESS))
        verified = json.loads(self._journal.notes.read(LAST_VERIFIED) or "{}")
        failed = (job["statusCode"] for job in self._history.newest() if job["state"] == State.FAILED)
        # A clock that was set back does not make a backup younger than new.
        age = max(self._now() - success, timedelta(0)) if success else None
        limit = self._limit(success)
        schedules = [[record.read() for record in stores] for stores in self._records]
        refused = (standing.problem for stores in schedules for standing in stores if standing.problem)
        return Facts(
            last_success=success,
            last_verified=_time(verified.get("time")),
            last_error=next(refused, "") or next(failed, ""),
            missed=sum(max(standing.missed for standing in stores) for stores in schedules),
            age=age,
            rpo_violated=limit is not None and self._now() > limit,
        )

    def _limit(self, success: datetime | None) -> datetime | None:
        """Return until when the last good backup is new enough; None while it may have any age."""
        if self._rpo is not None:
            return (success + self._rpo if success else _ALWAYS) if self._rpo else None
        if success and success > self._now():  # when that was, nobody knows
            success = None
        return self._scheduled_limit(success, self._now())

    def value(self) -> Mapping[str, Any]:
        """Return the twin's property `health`."""
        facts = self.facts()
        hours = int(facts.age.total_seconds()) // _HOUR_S if facts.age is not None else None
        return {
            "lastSuccess": format_time(facts.last_success) if facts.last_success else NEVER_IN_ORDER,
            "lastVerified": format_time(facts.last_verified) if facts.last_verified else NEVER_IN_ORDER,
            "lastError": facts.last_error,
            "ageSeconds": None if hours is None else hours * _HOUR_S,
            "missed": facts.missed,
            "rpoViolated": facts.rpo_violated,
        }

    def look(self) -> None:
        """Set the timer for the next change by time. Due at the start, and when a job may have ended."""
        success = _time(self._journal.notes.read(LAST_SUCCESS))
        waits_for = success, self._limit(success)
        if waits_for != self._waits_for:
            self._waits_for = waits_for
            self._wait()

    def _wait(self) -> None:
        if self._timer:
            self._timer.cancel()
        next_s = self._until_next_s()
        self._timer = None if next_s is None else self._later(next_s, self._passed)

    def _passed(self) -> None:
        self._wait()
        self._changed()

    def _until_next_s(self) -> float | None:
        """Return the time to the next whole hour of the last success' age, or until it is too old."""
        success, limit = self._waits_for
        left_s = None if limit is None else (limit - self._now()).total_seconds()
        overdue = left_s is None or left_s < 0
        if success is None and overdue:
            return None
        age_s = max((self._now() - success).total_seconds(), 0) if success else 0
        next_s = _HOUR_S - age_s % _HOUR_S
        return (next_s if overdue or left_s is None else min(next_s, left_s)) + 1  # surely past it


def _time(text: str | None) -> datetime | None:
    return parse_time(text) if text else None
