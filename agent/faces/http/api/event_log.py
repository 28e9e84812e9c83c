"""The engine's events of this run, kept for the streams that tell them.

A subscriber of `agent.jobs.events` keeps the newest ones; each stream waits in a thread of its own and takes
them from here, so that no stream makes the engine or another stream wait.
"""

import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from agent.base.job import Job, Upload
from agent.base.text import clipped, compact_json
from agent.base.times import format_time
from agent.faces.http.api.values import Value, schedule_value
from agent.jobs.events import (
    ArchiveRemoved,
    Event,
    JobEnded,
    JobProgressed,
    JobStarted,
    ScheduleChanged,
    Subscriber,
    UploadChanged,
    UploadRequested,
)
from agent.jobs.queries.status import upload_value
from agent.journal import Unit

PROGRESS = "jobProgressed"
"""The name of the event that tells how far the running job has come."""
MOST_KEPT = 1000
MOST_KEPT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event as streams tell it."""

    number: int
    name: str
    job_id: str
    """The job that it is about; empty for another event."""
    data: bytes
    """The value as JSON, which takes a third of the memory."""


@dataclass(frozen=True, slots=True)
class Batch:
    events: Sequence[LoggedEvent]
    newest: int
    complete: bool
    """False when there were others, which are not kept any more."""


class EventLog(Subscriber):
    """`tell` belongs to the main thread; `after` may be called from any."""

    def __init__(self) -> None:
        self.run = uuid.uuid4().hex[:8]
        """Tells the event ids of this run of the agent from those of another."""
        self.running_job: Callable[[], Mapping[str, Any] | None] = lambda: None
        """To be set: returns the value of the job that runs."""
        self._kept: deque[LoggedEvent] = deque()
        self._kept_bytes = 0
        self._newest = self._forgotten = 0
        self._closed = False
        self._changed = threading.Condition()

    @property
    def newest(self) -> int:
        """Return the number of the newest event; 0 before the first one."""
        return self._newest

    def after(self, number: int, within_s: float) -> Batch | None:
        """Wait until there are events after `number`, at most so long. Return None when the agent stops."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._newest > number, within_s)
            if self._closed:
                return None
            events = [told for told in self._kept if told.number > number]
            return Batch(events, self._newest, complete=number >= self._forgotten)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # A subscriber of events

    def tell(self, event: Event, unit: Unit) -> None:
        name, value = event_value(event, self.running_job)
        job_id = (value.get("job") or {}).get("id", "")
        unit.after_commit(partial(self._keep, LoggedEvent(event.number, name, job_id, compact_json(value))))

    def _keep(self, told: LoggedEvent) -> None:
        with self._changed:
            if self._replaces_last(told):
                self._kept_bytes -= len(self._kept.pop().data)
            self._kept.append(told)
            self._kept_bytes += len(told.data)
            self._newest = told.number
            while len(self._kept) > MOST_KEPT or self._kept_bytes > MOST_KEPT_BYTES:
                oldest = self._kept.popleft()
                self._kept_bytes -= len(oldest.data)
                self._forgotten = oldest.number
            self._changed.notify_all()

    def _replaces_last(self, told: LoggedEvent) -> bool:
        """Return True for the progress of a job after its progress: only the newest is of use."""
        last = self._kept[-1] if self._kept else None
        return last is not None and last.name == told.name == PROGRESS and last.job_id == told.job_id


def event_value(event: Event, running_job: Callable[[], Value | None]) -> tuple[str, Value]:
    if isinstance(event, JobProgressed):
        return PROGRESS, {"job": running_job()}
    return EVENTS[type(event)](event)


def _job(job: Job) -> Value:
    return {
        "id": job.id,
        "correlationId": job.correlation_id,
        "kind": job.kind.value,
        "state": job.state.value,
        "startTime": format_time(job.started),
        "endTime": format_time(job.ended) if job.ended else None,
        "statusCode": job.status_code,
        "message": clipped(job.message),
    }


def _upload(upload: Upload) -> Value:
    return {
        "correlationId": upload.parent_id,
        "state": upload.state.value,
        "progress": upload.progress,
        "startTime": format_time(upload.started),
        "endTime": format_time(upload.ended) if upload.ended else None,
        "statusCode": upload.status_code,
        "message": clipped(upload.message),
    }


EVENTS: Mapping[type[Event], Callable[[Any], tuple[str, Value]]] = {
    JobStarted: lambda event: ("jobStarted", {"job": _job(event.job)}),
    JobEnded: lambda event: ("jobEnded", {"job": _job(event.job)}),
    UploadRequested: lambda event: ("uploadRequested", {"upload": upload_value(event.child, in_line=False)}),
    UploadChanged: lambda event: ("uploadChanged", {"upload": _upload(event.upload)}),
    ScheduleChanged: lambda event: ("scheduleChanged", {"schedule": schedule_value(event.frame)}),
    ArchiveRemoved: lambda event: ("archiveRemoved", {"destination": event.place, "archive": event.name}),
}
