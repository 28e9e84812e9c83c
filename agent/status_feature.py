"""The twin's second feature, `<featureId>Status`: what has no place in Kanto's model.

Told at most once in `INTERVAL_S`, and only when it changed then, so that short jobs cost no message; while
offline only the newest value waits. Nothing wakes up for it while nothing happens.
"""

from collections.abc import Callable, Mapping
from typing import Any

from agent.mailbox import Mailbox, Timer
from agent.messaging.ditto import clipped, encode, modify
from agent.messaging.hono import EVENTS
from agent.messaging.outbox import Outbox
from agent.settings import Settings

INTERVAL_S = 5.0
JOB, STATUS_JOB = "job", "status.job"


class StatusFeature:
    """Belongs to the main thread. `thing` tells the current one, `job` what runs."""

    def __init__(
        self,
        settings: Settings,
        mailbox: Mailbox,
        outbox: Outbox,
        *,
        thing: Callable[[], str],
        job: Callable[[], Mapping[str, Any] | None],
    ) -> None:
        self._on = settings.twin.status
        self._path = f"/features/{settings.feature_id}Status"
        self._mailbox, self._outbox, self._thing, self._job = mailbox, outbox, thing, job
        self._told: Mapping[str, Any] | None = None
        self._there = False
        self._timer: Timer | None = None

    def connected(self) -> None:
        """The twin may have lost the feature since: the next word brings all of it."""
        self._there = False

    def changed(self) -> None:
        """Something may have changed: tell what is true when the interval is over."""
        if self._on and self._timer is None:
            self._timer = self._mailbox.call_later(INTERVAL_S, self._tell)

    def _tell(self) -> None:
        self._timer = None
        job = self._job()
        if job == self._told:
            return
        self._told = job
        path, value = f"{self._path}/properties/{JOB}", _short(job)
        if not self._there:
            # A property can only be changed in a feature that is there.
            self._there, path, value = True, self._path, {"properties": {JOB: value}}
        self._outbox.update(EVENTS, encode(modify(self._thing(), path, value)), STATUS_JOB)
        self._outbox.flush()


def _short(job: Mapping[str, Any] | None) -> dict[str, Any]:
    """Ids of backends may be long; here they only have to be recognised."""
    return {"phase": "idle"} if job is None else {**job, "correlationId": clipped(job["correlationId"])}
