"""The models of document 003, as its clients parse them."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from agent.base.times import parse_time
from agent.faces.http.documents.jobs import JobView, Stage
from agent.journal.jobs import JobRecord

Model = Mapping[str, Any]

_IDENTIFIER = re.compile(r"[0-9]{1,9}_(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)", re.ASCII)
_VALUES = {
    Stage.BEGINNING: "INITIALIZED",
    Stage.RUNNING: "IN-PROGRESS",
    Stage.SUCCEEDED: "COMPLETED",
    Stage.FAILED: "FAILED",
    Stage.CANCELLED: "CANCELED",
    Stage.UNKNOWN: "UNKNOWN",
}


def started_of(identifier: str) -> str | None:
    """Return the time in an identifier `<version>_<timestamp>`; None for any other text."""
    found = _IDENTIFIER.fullmatch(identifier)
    return found[1] if found else None


def ended_backup(record: JobRecord, device: str) -> Model:
    return _backup(record.started, device, int(record.facts.get("archive_bytes") or 0))


def running_backup(value: Mapping[str, Any], device: str) -> Model:
    """Return the backup of a value of `JobProgress.value`; nobody knows its size yet."""
    return _backup(value["startTime"], device, 0)


def _backup(started: str, device: str, size_bytes: int) -> Model:
    from agent.formats.manifest import FORMAT  # for the first client of this document

    return {
        # The version is that of the archives, which a backup keeps for ever.
        "id": f"{FORMAT}_{started}",
        "version": str(FORMAT),
        "timestamp": started,
        "device_name": device,
        "platform": "LINUX",
        "bytes": size_bytes,
        "created": {"value": started, "readable": _readable(parse_time(started))},
    }


def backups(models: Iterable[Model]) -> Model:
    listed = list(models)
    return {
        "iterable": listed,
        "indices": {model["id"]: number for number, model in enumerate(listed)},
    }


def backup_status(backup: Model, job: JobView) -> Model:
    return {"backup": backup, "percentage": job.percent, "value": _VALUES[job.stage]}


def streamed_progress(backup: Model, job: JobView) -> Model:
    return {"backup": backup, "percentage": job.percent, "status": _VALUES[job.stage]}


def _readable(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M:%S} UTC"
