"""The JSON values of the API that no question of the engine gives."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from agent.base.durations import format_duration
from agent.base.job import Job, State, Upload, format_time
from agent.base.refusals import Reason, Refused
from agent.base.text import clipped
from agent.faces.http.engine_gate import ROOM_BYTES
from agent.jobs.engine import Engine
from agent.jobs.events import (
    ArchiveRemoved,
    Event,
    JobEnded,
    JobProgressed,
    JobStarted,
    ScheduleChanged,
    UploadChanged,
    UploadRequested,
)
from agent.jobs.frame import Frame
from agent.jobs.preview_record import PreviewState
from agent.jobs.queries.status import upload_value
from agent.jobs.requests.control import DescribeRequest

PROGRESS = "jobProgressed"
"""The name of the event that tells how far the running job has come."""
Value = Mapping[str, Any]


def encoded(value: Value) -> bytes:
    """Return compact JSON; file names that are no UTF-8 have replacement characters."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def find_job(engine: Engine, either_id: str) -> Value:
    """Return the job with this id or correlation id: it runs, waits as a preview, or has ended.

    Raises `Refused` (NOT_FOUND). Belongs to the main thread.
    """
    for job in current_jobs(engine):
        if _has_id(job, either_id):
            return job
    try:
        return engine.history.describe(DescribeRequest(either_id), ROOM_BYTES)
    except Refused as refused:
        # A preview that failed or was discarded is no part of the history.
        preview = engine.status.preview(ROOM_BYTES)
        if refused.reason is not Reason.NOT_FOUND or preview is None or not _has_id(preview, either_id):
            raise
        return _preview_job(preview)


def _has_id(job: Value, either_id: str) -> bool:
    return either_id in (job["id"], job["correlationId"])


def current_jobs(engine: Engine) -> list[Value]:
    """Return the job that runs, and the restore whose preview waits. Belongs to the main thread."""
    current: list[Value] = []
    if (job := engine.monitor.job) and (running := engine.monitor.value()):
        current.append({**running, "state": job.state.value})
    if (preview := engine.status.preview(ROOM_BYTES)) and preview["state"] == PreviewState.WAITING:
        current.append(_preview_job(preview))
    return current


def _preview_job(preview: Value) -> Value:
    """Return the restore that was previewed, as a job."""
    ids = {key: preview[key] for key in ("id", "correlationId", "startTime")}
    return {**ids, "kind": "restore", "state": State.PREVIEW.value, "preview": preview}


def job_value(job: Job) -> Value:
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


def schedule_value(frame: Frame) -> Value:
    return {
        "active": frame.active,
        "from": format_time(frame.start) if frame.start else None,
        "to": format_time(frame.end) if frame.end else None,
        "period": format_duration(frame.period),
    }


def event_value(event: Event, running_job: Callable[[], Value | None]) -> tuple[str, Value]:
    """Return the name of an event and its value."""
    if isinstance(event, JobProgressed):
        return PROGRESS, {"job": running_job()}
    return EVENTS[type(event)](event)


def _changed_upload(upload: Upload) -> Value:
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
    JobStarted: lambda event: ("jobStarted", {"job": job_value(event.job)}),
    JobEnded: lambda event: ("jobEnded", {"job": job_value(event.job)}),
    UploadRequested: lambda event: ("uploadRequested", {"upload": upload_value(event.child, in_line=False)}),
    UploadChanged: lambda event: ("uploadChanged", {"upload": _changed_upload(event.upload)}),
    ScheduleChanged: lambda event: ("scheduleChanged", {"schedule": schedule_value(event.frame)}),
    ArchiveRemoved: lambda event: ("archiveRemoved", {"destination": event.place, "archive": event.name}),
}
