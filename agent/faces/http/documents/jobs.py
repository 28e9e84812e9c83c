"""A job as all three documents show it: how far it is, and how it ended."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from agent.base.errors import Cancelled
from agent.base.job import State
from agent.faces.http.api.context import Api
from agent.faces.http.api.jobs import job_of
from agent.faces.http.message import Request
from agent.journal.jobs import JobRecord
from providers.errors import UnknownOutcome

_SHARES = {
    "collecting": (0, 5),
    "fetching": (0, 50),
    "archiving": (5, 60),
    "unpacking": (50, 90),
    "uploading": (60, 99),
    "delivering": (90, 99),
    "committing": (95, 99),
    "trial": (99, 99),
}
"""Where in the whole job a phase begins and ends, in percent, so that the percentage of a job never falls. A
phase that is not here counts no bytes."""


class Stage(Enum):
    BEGINNING = auto()
    RUNNING = auto()
    SUCCEEDED = auto()
    FAILED = auto()
    CANCELLED = auto()
    UNKNOWN = auto()
    """The connection broke when the archive was sent: whether it is stored, nobody knows."""


_FAILURES = {Cancelled.code: Stage.CANCELLED, UnknownOutcome.code: Stage.UNKNOWN}


@dataclass(frozen=True, slots=True)
class JobView:
    id: str
    correlation_id: str
    kind: str
    stage: Stage
    percent: int | None
    """Of the whole job; None while unknown."""
    message: str = ""

    @property
    def runs(self) -> bool:
        return self.stage in (Stage.BEGINNING, Stage.RUNNING)


def job_view(api: Api, request: Request, either_id: str) -> JobView:
    """Return the job with this id or correlation id, the newest of several.

    Raises `Refused` (NOT_FOUND), and what the gate raises.
    """
    value = job_of(api, request, either_id)
    return running_job(value) if "phase" in value else _told_job(value)


def running_job(value: Mapping[str, Any]) -> JobView:
    """Return the job of a value that `JobProgress.value` made."""
    stage = Stage.BEGINNING if value["phase"] == "starting" else Stage.RUNNING
    return JobView(value["id"], value["correlationId"], value["kind"], stage, _percent(value))


def recorded_job(record: JobRecord) -> JobView:
    ids = record.id, record.correlation_id, record.kind
    return _ended_job(ids, record.state, record.status_code, record.message)


def _told_job(entry: Mapping[str, Any]) -> JobView:
    """Return a job of the history, or a preview, which is no part of any document and counts as begun."""
    ids = entry["id"], entry["correlationId"], entry["kind"]
    if entry["state"] == State.PREVIEW:
        return JobView(*ids, Stage.BEGINNING, None)
    return _ended_job(ids, entry["state"], entry["statusCode"], entry["message"])


def _ended_job(ids: tuple[str, str, str], state: str, code: str, message: str) -> JobView:
    if state == State.FINISHED:
        return JobView(*ids, Stage.SUCCEEDED, 100, message)
    return JobView(*ids, _FAILURES.get(code, Stage.FAILED), None, message)


def _percent(running: Mapping[str, Any]) -> int | None:
    if running["phase"] == "starting":
        return 0
    if running["phase"] not in _SHARES:
        return None
    begins, ends = _SHARES[running["phase"]]
    return begins + (ends - begins) * (running["percent"] or 0) // 100
