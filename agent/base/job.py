"""Records of jobs and uploads, and the label of a backup. Pure.

A job starts and ends once. A restore may be a preview before it starts; no backend is told of that."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from agent.base.times import format_time

WORKING, COMMITTED = "restore.working", "restore.committed"
"""Checkpoints of a restore: the mount point on which its target may hold unfinished work; the restore can no
longer be reverted."""
STOPPED = "restore.stopped"
"""Checkpoint of a restore: beforeRestoreCmd was run, and afterRestoreCmd has not ended yet."""
IN_PLACE = "restore.in-place"
"""Checkpoint of a commit-confirmed restore: the new data is in place and nothing was reverted.
Without its working directory all data is new."""
UNCONFIRMED, CONFIRMED, VERDICT = "restore.trial", "restore.confirmed", "restore.verdict"
"""Checkpoints of a commit-confirmed restore: its record; that it was confirmed; why it is being reverted."""

ON_TRIAL = "trial"
"""The phase of a commit-confirmed restore that waits for its confirmation."""


def phase_text(phase: str) -> str:
    """Return the phase of a job for people."""
    return "waits for confirm" if phase == ON_TRIAL else phase


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
        """Return the restore that this preview becomes."""
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
    """The upload of a staged archive, as the backend that sent `start` sees it."""

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
    """Tells apart archives of one parent id, which a backend may use again."""

    def moved(self, percent: int) -> "Upload":
        """Return the upload with this progress; 100 only comes at the end."""
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


@dataclass(frozen=True, slots=True)
class Label:
    """A label; an absent member is empty or None."""

    name: str = ""
    description: str = ""
    retention_date: datetime | None = None
    """From then on the archive may be removed."""

    def facts(self) -> dict[str, Any]:
        """Return what the label says, as the history keeps it; the time as `format_time` writes it."""
        date = format_time(self.retention_date) if self.retention_date else ""
        facts = {"name": self.name, "description": self.description, "retention_date": date}
        return {key: text for key, text in facts.items() if text}
