"""Whether the device is well protected: what a fleet's operator searches for, also long after the last event.

Everything is in the journal, so it survives restarts. Belongs to the main thread.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.base.job import State, format_time, parse_time
from agent.jobs.queries.history import History
from agent.journal import LAST_SUCCESS, Journal
from agent.mailbox import Action, Timer

LAST_VERIFIED = "last_verified"
"""The journal's note of the last archive that was found whole: JSON, with its `time`."""
NEVER = "0001-01-01T00:00:00.000000Z"
"""Of the same width as all times, so that a search for what is too old finds what has never been."""
_HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class Facts:
    """Times are None for what has never been."""

    last_success: datetime | None
    """When the last backup ended that ended well."""
    last_verified: datetime | None
    last_error: str
    """The code of the newest job that failed, unless one of its kind ended well since."""
    age: timedelta | None
    """Of the last success."""
    rpo_violated: bool


class Health:
    """`changed` is to be set: it is called when the value has changed by the passing of time."""

    def __init__(
        self,
        journal: Journal,
        history: History,
        rpo: timedelta,
        later: Callable[[float, Action], Timer],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`rpo` is how old the last good backup may become; zero for any age."""
        self.changed: Action = lambda: None
        self._journal, self._history = journal, history
        self._rpo, self._later, self._now = rpo, later, now
        self._waits_for: datetime | None = None
        self._timer: Timer | None = None

    def facts(self) -> Facts:
        success = _time(self._journal.notes.read(LAST_SUCCESS))
        verified = json.loads(self._journal.notes.read(LAST_VERIFIED) or "{}")
        failed = (job["statusCode"] for job in self._history.newest() if job["state"] == State.FAILED)
        # A clock that was set back does not make a backup younger than new.
        age = max(self._now() - success, timedelta(0)) if success else None
        return Facts(
            last_success=success,
            last_verified=_time(verified.get("time")),
            last_error=next(failed, ""),
            age=age,
            rpo_violated=bool(self._rpo) and (age is None or age > self._rpo),
        )

    def value(self) -> Mapping[str, Any]:
        """The twin's property `health`."""
        facts = self.facts()
        hours = int(facts.age.total_seconds()) // _HOUR_S if facts.age is not None else None
        return {
            "lastSuccess": format_time(facts.last_success) if facts.last_success else NEVER,
            "lastVerified": format_time(facts.last_verified) if facts.last_verified else NEVER,
            "lastError": facts.last_error,
            "ageSeconds": None if hours is None else hours * _HOUR_S,
            "rpoViolated": facts.rpo_violated,
        }

    def look(self) -> None:
        """After a start, and whenever a job may have ended: see that the passing of time is noticed."""
        success = _time(self._journal.notes.read(LAST_SUCCESS))
        if success and success != self._waits_for:
            self._waits_for = success
            self._wait()

    def _wait(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._later(self._until_next_s(), self._passed)

    def _passed(self) -> None:
        self._wait()
        self.changed()

    def _until_next_s(self) -> float:
        """To the next whole hour of the last success' age, or to the moment when it is too old."""
        age = self.facts().age or timedelta(0)
        next_s = _HOUR_S - age.total_seconds() % _HOUR_S
        if self._rpo and age <= self._rpo:
            next_s = min(next_s, (self._rpo - age).total_seconds())
        return next_s + 1  # surely past it


def _time(text: str | None) -> datetime | None:
    return parse_time(text) if text else None
