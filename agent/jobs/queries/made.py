"""The backups that this device has made or makes, for faces that speak of single backups.

Belongs to the main thread.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.base.job import Kind
from agent.base.sources import ArchiveSource
from agent.jobs.device import Device
from agent.jobs.progress import JobProgress
from agent.journal import Journal
from agent.journal.jobs import JobRecord, JobRow, job_record


@dataclass(frozen=True, slots=True)
class Made:
    """Backups as they are at one moment."""

    device_id: str
    running: Mapping[str, Any] | None = field(hash=False)
    """The backup that runs, as `JobProgress.value` tells it; None while none does."""
    rows: tuple[JobRow, ...] = field(repr=False)
    """The backups that have ended, oldest first; they are read in the thread that asks."""

    @property
    def ended(self) -> list[JobRecord]:
        """Return the backups that have ended in any way, newest first."""
        return [job_record(row) for row in reversed(self.rows)]


class MadeBackups:
    def __init__(self, journal: Journal, progress: JobProgress, device: Device) -> None:
        self._journal, self._progress, self._device = journal, progress, device

    def all(self) -> Made:
        """Return every backup that the history keeps."""
        return self._made(self._journal.jobs.rows_of(Kind.BACKUP))

    def begun_at(self, started: str) -> Made:
        """Return the backup that began at this time, written as `format_time` does; none for another time."""
        return self._made(self._journal.jobs.rows_of(Kind.BACKUP, started))

    def source_of(self, archive: str) -> ArchiveSource | None:
        """Return the source of an archive; None when the journal does not know it."""
        known = self._journal.archives.known().get(archive)
        return known.source if known else None

    def _made(self, rows: Iterable[JobRow]) -> Made:
        running = self._progress.value()
        is_backup = running is not None and running["kind"] == Kind.BACKUP
        return Made(self._device.id, running if is_backup else None, tuple(rows))
