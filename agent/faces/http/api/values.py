"""The jobs and the schedule as JSON values of the API."""

from collections.abc import Mapping
from typing import Any

from agent.base.durations import format_duration
from agent.base.job import State
from agent.base.refusals import Reason, Refused
from agent.base.times import format_time
from agent.faces.http.engine_gate import ROOM_BYTES
from agent.jobs.engine import Engine
from agent.jobs.frame import Frame
from agent.jobs.preview_record import PreviewState
from agent.jobs.requests.control import DescribeRequest

Value = Mapping[str, Any]


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
    if (job := engine.progress.job) and (running := engine.progress.value()):
        current.append({**running, "state": job.state.value})
    if (preview := engine.status.preview(ROOM_BYTES)) and preview["state"] == PreviewState.WAITING:
        current.append(_preview_job(preview))
    return current


def _preview_job(preview: Value) -> Value:
    ids = {key: preview[key] for key in ("id", "correlationId", "startTime")}
    return {**ids, "kind": "restore", "state": State.PREVIEW.value, "preview": preview}


def schedule_value(frame: Frame) -> Value:
    return {
        "active": frame.active,
        "from": format_time(frame.start) if frame.start else None,
        "to": format_time(frame.end) if frame.end else None,
        "period": format_duration(frame.period),
    }
