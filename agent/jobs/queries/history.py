"""The jobs that have ended: the questions `history` and `describe`, answered from the journal.

An entry is found by its own id or by the correlation id that the backend gave it, the newest of those. Faces
that speak of single backups ask `MadeBackups`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic.alias_generators import to_camel

from agent.base.job import Kind
from agent.base.refusals import Reason, Refused
from agent.base.sources import ArchiveSource
from agent.base.text import printable
from agent.jobs.device import Device
from agent.jobs.progress import JobProgress
from agent.jobs.queries.fitting import encoded_bytes, missing, shortened, with_texts_cut
from agent.jobs.requests.control import DescribeRequest, HistoryRequest
from agent.journal import Journal
from agent.journal.jobs import JobRecord, JobRow, job_record

_CHANGES = ("addedBytes", "filesNew", "filesChanged", "filesUnmodified")
"""The difference between a snapshot and the one before it; a whole archive has none."""
_IN_LISTS = (
    "id", "correlationId", "kind", "state", "statusCode", "endTime", "name", "archiveBytes", *_CHANGES,
    "unexportable",
)  # fmt: skip
_TEXTS = ("message", "description", "directory", "place")
_OF_THE_LAST = (
    "id", "correlationId", "kind", "state", "startTime", "endTime", "statusCode", "message",
    *_CHANGES,
)  # fmt: skip


class History:
    """Belongs to the main thread."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def history(self, request: HistoryRequest, room_bytes: int) -> Mapping[str, Any]:
        """Return ended jobs, newest first, as many as fit: `{"entries": […], "next": <id>}`.

        `next` is there when older ones are left; given back as option `history.before`, it continues.
        Raises `Refused` (NOT_FOUND) when there is no such entry.
        """
        entries: list[dict[str, Any]] = []
        left_bytes = room_bytes - encoded_bytes({"entries": entries, "next": "0" * 16})
        for entry in self._entries(request.before):
            shown = {key: entry[key] for key in _IN_LISTS if entry.get(key, "") != ""}
            left_bytes -= encoded_bytes(shown) + len(",")
            if entries and left_bytes < 0:
                return {"entries": entries, "next": entries[-1]["id"]}
            entries.append(shown)
        return {"entries": entries}

    def describe(self, request: DescribeRequest, room_bytes: int) -> Mapping[str, Any]:
        """Return all facts of one job. Raises `Refused` (NOT_FOUND)."""
        record = next(self._journal.jobs.ended_with_id(request.correlation_id), None)
        if record is None:
            raise _unknown(request.correlation_id)
        entry = _entry(record)
        if skipped := self._journal.skipped.of(record.id):
            names = [{"name": name, "reason": reason} for name, reason in skipped]
            more = missing("leftOut", entry["unexportable"] - len(names))
            entry = shortened(entry | {"leftOut": names} | more, ("leftOut",), room_bytes)
        return with_texts_cut(entry, _TEXTS, room_bytes)

    def last(self, room_bytes: int) -> Mapping[str, Any] | None:
        """Return the end of the last job, in at most `room_bytes` of JSON; None when there was none."""
        entry = next(self._entries(None), None)
        return entry and with_texts_cut(
            {key: entry[key] for key in _OF_THE_LAST if key in entry}, _TEXTS, room_bytes
        )

    def newest(self) -> list[dict[str, Any]]:
        """Return the last ended job of each kind, newest first."""
        return [_entry(record) for record in self._journal.jobs.newest()]

    def last_size(self, fact: str) -> int | None:
        """Return a number among the facts of the last good backup that has it."""
        return self._journal.jobs.last_size(fact)

    def _entries(self, before: str | None) -> Iterator[dict[str, Any]]:
        """Return ended jobs, newest first; with `before`, those that began earlier than that job."""
        if before is not None and not self._journal.jobs.knows(before):
            raise _unknown(before)
        return map(_entry, self._journal.jobs.ended_before(before))


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


def _entry(record: JobRecord) -> dict[str, Any]:
    entry = {
        "id": record.id,
        "correlationId": record.correlation_id,
        "kind": record.kind,
        "state": record.state,
        "startTime": record.started,
        "endTime": record.ended,
        "statusCode": record.status_code,
        "message": record.message,
    }
    if record.kind != Kind.VERIFY:  # a verification has no directory
        entry["directory"] = printable(str(record.directory))
    return entry | {to_camel(key): fact for key, fact in record.facts.items()}


def _unknown(either_id: str) -> Refused:
    return Refused(Reason.NOT_FOUND, f"no job '{either_id[:80]}' in the history")
