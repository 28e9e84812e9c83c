"""One record per job: a backup, a restore, or the upload of a staged archive. Pure.

A job starts and ends once; a restore may be a preview before, which nobody is told of."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

NEVER = "0001-01-01T00:00:00Z"
"""Go's zero time, which Kanto sends for an end that has not come."""


WORKING, COMMITTED = "restore.working", "restore.committed"
"""Checkpoints of a restore: it may have left something in its target, on this mount point; it cannot be taken
back any more."""
STOPPED = "restore.stopped"
"""Checkpoint of a restore: beforeRestoreCmd was run, and afterRestoreCmd has not come to its end."""
IN_PLACE = "restore.in-place"
"""A trial has begun, and nothing of it was taken back yet: without its working directory all is new."""
UNCONFIRMED, CONFIRMED, VERDICT = "restore.trial", "restore.confirmed", "restore.verdict"
"""Checkpoints of an unconfirmed restore: its note; that it was confirmed; code and message of a way back."""


class Kind(StrEnum):
    BACKUP = "backup"
    RESTORE = "restore"
    VERIFY = "verify"


class State(StrEnum):
    PREVIEW = "PREVIEW"
    """A restore that is unpacked beside its target, or waits there; not begun yet."""
    STARTED = "STARTED"
    FINISHED = "FINISHED"
    FAILED = "FAILED"


class UploadState(StrEnum):
    UPLOADING = "UPLOADING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


def format_time(when: datetime | None) -> str:
    """UTC with six decimals, fixed width, so that text order is time order; Go's zero time for None."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if when else NEVER


def parse_time(text: str) -> datetime:
    """What `format_time` wrote of a time. Raises ValueError for anything else."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Job:
    """A backup or a restore."""

    id: str
    """Our own; names the working directories."""
    kind: Kind
    correlation_id: str
    started: datetime
    state: State = State.STARTED
    ended: datetime | None = None
    status_code: str = ""
    message: str = ""

    def finalized(self, when: datetime) -> "Job":
        """The restore that this preview becomes."""
        if self.state is not State.PREVIEW:
            raise ValueError(f"job {self.id} is {self.state} and was begun before")
        return replace(self, state=State.STARTED, started=when)

    def finished(self, when: datetime, message: str = "") -> "Job":
        return self._ended(State.FINISHED, when, "", message)

    def failed(self, when: datetime, code: str, message: str) -> "Job":
        return self._ended(State.FAILED, when, code, message)

    def _ended(self, state: State, when: datetime, code: str, message: str) -> "Job":
        if self.state is not State.STARTED:
            raise ValueError(f"job {self.id} is {self.state} and cannot become {state}")
        return replace(self, state=state, ended=when, status_code=code, message=message)


@dataclass(frozen=True, slots=True)
class Upload:
    """The way of a staged archive to its place, as the backend that sent `start` sees it."""

    child_id: str
    parent_id: str
    info: dict[str, str]
    started: datetime
    state: UploadState = UploadState.UPLOADING
    progress: int = 0
    """Whole percent, never falling."""
    ended: datetime | None = None
    status_code: str = ""
    message: str = ""
    group_id: int = 0
    """Which archives of the parent id: a backend may use the id again."""

    def moved(self, percent: int) -> "Upload":
        """Further on; 100 is only for the end."""
        return replace(self, progress=max(self.progress, min(percent, 99)))

    def succeeded(self, when: datetime) -> "Upload":
        return replace(self._over(), state=UploadState.SUCCESS, progress=100, ended=when)

    def failed(self, when: datetime, code: str, message: str, *, cancelled: bool = False) -> "Upload":
        state = UploadState.CANCELED if cancelled else UploadState.FAILED
        return replace(self._over(), state=state, ended=when, status_code=code, message=message)

    def _over(self) -> "Upload":
        if self.state is not UploadState.UPLOADING:
            raise ValueError(f"upload {self.child_id} is {self.state} and cannot end again")
        return self
