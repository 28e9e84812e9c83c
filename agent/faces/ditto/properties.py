"""The values of the feature's properties, as Kanto's model has them (docs/wire.md). Pure."""

from typing import Any

from agent.base.job import Job, State, Upload, format_time
from agent.jobs.schedule import Frame


def last_operation(job: Job, message: str) -> dict[str, Any]:
    """Return the value of `lastOperation`, with as much of the message as fits."""
    return {
        "correlationId": job.correlation_id,
        "state": f"{job.kind.upper()}_{job.state}",
        "startTime": format_time(job.started),
        "endTime": format_time(job.ended),
        "statusCode": job.status_code,
        "message": message,
        "progress": 100 if job.state is State.FINISHED else 0,
        "info": None,
    }


def last_upload(upload: Upload, message: str) -> dict[str, Any]:
    """Return the value of `lastUpload`, with as much of the message as fits."""
    return {
        "correlationId": upload.parent_id,
        "state": str(upload.state),
        "startTime": format_time(upload.started),
        "endTime": format_time(upload.ended),
        "statusCode": upload.status_code,
        "message": message,
        "progress": upload.progress,
        "info": upload.info,
    }


def auto_upload(frame: Frame) -> dict[str, Any]:
    """Return the value of `autoUpload`: Kanto's `AutoUploadableState`."""
    return {
        "active": frame.active,
        "startTime": format_time(frame.start) if frame.start else None,
        "endTime": format_time(frame.end) if frame.end else None,
    }
