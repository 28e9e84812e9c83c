"""Jobs: the one that runs, those that an earlier run of the agent left, and the history."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from agent.base.errors import IoError
from agent.base.job import WORKING, Job, Kind, State
from agent.base.times import format_time, parse_time
from agent.journal.checkpoints import LASTING
from agent.journal.notes import LAST_SUCCESS, Notes
from agent.journal.unit import Database

KEPT_JOBS = 1000
_ENDED = f"state IN ('{State.FINISHED}', '{State.FAILED}')"
_RECORD = "SELECT id, kind, correlation_id, started, ended, state, status_code, message, directory, facts"


@dataclass(frozen=True, slots=True)
class UnfinishedJob:
    """A job that left work to do: it was interrupted, is a preview, or could not be cleaned up after."""

    job: Job
    directory: Path
    made: list[Path]
    """Directories that a restore made before it began, outermost first."""
    working: str | None
    """The checkpoint of the directories that a restore worked in; `agent.restore.recovery` reads it."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as the history keeps it. Times are texts of `format_time`."""

    id: str
    kind: str
    correlation_id: str
    started: str
    ended: str
    state: str
    status_code: str
    message: str
    directory: Path
    facts: Mapping[str, Any] = field(hash=False)
    """Further facts about the job, by name."""


JobRow = tuple[Any, ...]
"""A job as `job_record` reads it. Any thread may do that: a thousand jobs take it some milliseconds."""


def job_record(row: JobRow) -> JobRecord:
    *texts, directory, facts = row
    return JobRecord(*[*texts, Path(os.fsdecode(directory)), json.loads(facts)])


class Jobs:
    """Changes are part of the unit that is open."""

    def __init__(self, database: Database, notes: Notes, kept: int) -> None:
        """The history keeps the last `kept` jobs."""
        self._database, self._notes, self._kept = database, notes, kept

    def started(
        self,
        job: Job,
        directory: Path,
        made: Iterable[Path],
        facts: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        """Keep a job that begins; the history keeps its `facts`, however it ends."""
        self._database.write(
            "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', '', ?)",
            (job.id, job.kind, job.correlation_id, format_time(job.started), os.fsencode(directory),
             json.dumps([os.fspath(path) for path in made]), job.state, format_time(None),
             json.dumps(dict(facts))),
        )  # fmt: skip

    def finalized(self, job: Job, directory: Path, made: Iterable[Path]) -> None:
        """Turn the preview with this id into a restore that has begun; its checkpoints stay."""
        with self._database.unit():
            self._database.write("DELETE FROM jobs WHERE id = ?", (job.id,))
            self.started(job, directory, made)

    def ended(self, job: Job, facts: Mapping[str, object] = MappingProxyType({})) -> None:
        """Keep the end of a job, and add `facts` to those of its start."""
        with self._database.unit():
            known = self._database.read("SELECT facts FROM jobs WHERE id = ?", (job.id,))
            all_facts = (json.loads(known[0][0]) if known else {}) | dict(facts)
            self._database.write(
                "UPDATE jobs SET state = ?, ended = ?, status_code = ?, message = ?, facts = ? WHERE id = ?",
                (job.state, format_time(job.ended), job.status_code, job.message, json.dumps(all_facts),
                 job.id),
            )  # fmt: skip
            if job.kind is Kind.BACKUP and job.state is State.FINISHED:
                self._notes.keep(LAST_SUCCESS, format_time(job.ended))
            self._forget_old(job)

    def _forget_old(self, job: Job) -> None:
        if job.kind is not Kind.BACKUP:
            # The progress of its download is of no use any more; the marks of a working directory are.
            # Checkpoints of a backup name what it left at a provider: a later job there removes that.
            self._database.write(
                "DELETE FROM checkpoints WHERE owner = ? AND key NOT IN (?, ?)", (job.id, *LASTING)
            )
        self._database.write(
            "DELETE FROM jobs WHERE state NOT IN (?, ?)"
            " AND id NOT IN (SELECT owner FROM checkpoints WHERE key IN (?, ?))"
            " AND rowid NOT IN (SELECT rowid FROM jobs ORDER BY rowid DESC LIMIT ?)",
            (State.STARTED, State.PREVIEW, *LASTING, self._database.room_for(self._kept)),
        )
        # A store that never comes back must not make the journal grow for ever.
        self._database.write(
            "DELETE FROM checkpoints WHERE owner NOT LIKE 'staged-%' AND owner NOT IN (SELECT id FROM jobs)"
        )

    def forget_preview(self, job_id: str) -> None:
        """Forget the preview with this id, unless something of it is left for the next start to remove."""
        with self._database.unit():
            self._database.write(
                "DELETE FROM checkpoints WHERE owner = ? AND key NOT IN (?, ?)", (job_id, *LASTING)
            )
            self._database.write(
                "DELETE FROM jobs WHERE id = ? AND state = ? AND id NOT IN (SELECT owner FROM checkpoints)",
                (job_id, State.PREVIEW),
            )

    # Jobs of an earlier run

    def unfinished(self) -> list[UnfinishedJob]:
        """Return the jobs that ran when the agent stopped, previews, and restores that left something."""
        rows = self._database.read(
            "SELECT id, kind, correlation_id, started, state, directory, made,"
            " (SELECT value FROM checkpoints WHERE owner = id AND key = ?) FROM jobs"
            " WHERE state IN (?, ?) OR id IN (SELECT owner FROM checkpoints WHERE key IN (?, ?))",
            (WORKING, State.STARTED, State.PREVIEW, *LASTING),
        )
        return [
            UnfinishedJob(
                Job(job_id, Kind(kind), correlation_id, parse_time(started), State(state)),
                Path(os.fsdecode(directory)),
                [Path(path) for path in json.loads(made)],
                working,
            )
            for job_id, kind, correlation_id, started, state, directory, made, working in rows
        ]

    def untidy_since(self) -> datetime | None:
        """Return the start of the first backup that may have left a file in a target; None for no backup."""
        ((started,),) = self._database.read(
            "SELECT min(started) FROM jobs WHERE kind = ? AND (state = ? OR status_code = ?)",
            (Kind.BACKUP, State.STARTED, IoError.code),
        )
        return parse_time(started) if started else None

    # The history

    def knows(self, job_id: str) -> bool:
        return bool(self._database.read("SELECT 1 FROM jobs WHERE id = ?", (job_id,)))

    def ended_before(self, job_id: str | None) -> Iterator[JobRecord]:
        """Return the jobs that ended, newest first; with `job_id`, those that began before that job."""
        earlier = " AND rowid < (SELECT rowid FROM jobs WHERE id = ?)" if job_id is not None else ""
        return self._records(f"{_ENDED}{earlier} ORDER BY rowid DESC", *([] if job_id is None else [job_id]))

    def ended_with_id(self, either_id: str) -> Iterator[JobRecord]:
        """Return the ended job with this id, then those with this correlation id, newest first."""
        condition = f"{_ENDED} AND (id = ?1 OR correlation_id = ?1) ORDER BY id = ?1 DESC, rowid DESC"
        return self._records(condition, either_id)

    def ended_of(self, kind: Kind) -> Iterator[JobRecord]:
        """Return the ended jobs of a kind, oldest first."""
        return map(job_record, self.rows_of(kind))

    def rows_of(self, kind: Kind, started: str | None = None) -> Iterator[JobRow]:
        """Return the rows of `ended_of`, to be read elsewhere; with `started`, of jobs that began then."""
        then = "" if started is None else " AND started = ?"
        values = [kind] if started is None else [kind, started]
        return self._rows(f"{_ENDED} AND kind = ?{then} ORDER BY rowid", *values)

    def newest(self) -> Iterator[JobRecord]:
        """Return the last ended job of each kind, newest first."""
        latest = f"rowid IN (SELECT max(rowid) FROM jobs WHERE {_ENDED} GROUP BY kind)"  # noqa: S608 (ours)
        return self._records(f"{latest} ORDER BY rowid DESC")

    def fact(self, job_id: str, name: str) -> Any:
        """Return a fact of a job; None when it has none."""
        query = "SELECT json_extract(facts, '$.' || ?) FROM jobs WHERE id = ?"
        return next((fact for (fact,) in self._database.read(query, (name, job_id))), None)

    def last_scheduled(self, schedule: str, store: str = "") -> JobRecord | None:
        """Return the newest ended backup of a schedule, at any of its stores when none is named."""
        condition = (
            f"{_ENDED} AND json_extract(facts, '$.schedule') = ?1"
            " AND (?2 = '' OR json_extract(facts, '$.store') = ?2) ORDER BY rowid DESC LIMIT 1"
        )
        return next(self._records(condition, schedule, store), None)

    def last_size(self, fact: str, directory: Path | None = None) -> int | None:
        """Return a fact in bytes of the last good backup that has it, of this directory or of any."""
        rows = self._database.read(
            "SELECT json_extract(facts, '$.' || ?1) AS size FROM jobs"
            " WHERE kind = ?2 AND state = ?3 AND size IS NOT NULL"
            " AND (directory = ?4 OR ?4 IS NULL) ORDER BY rowid DESC LIMIT 1",
            (fact, Kind.BACKUP, State.FINISHED, None if directory is None else os.fsencode(directory)),
        )
        return int(rows[0][0]) if rows else None

    def knows_archive(self, name: str) -> bool:
        """Return True when a job that is kept made an archive of this name."""
        return bool(
            self._database.read("SELECT 1 FROM jobs WHERE json_extract(facts, '$.archive') = ?", (name,))
        )

    def archive_removed(self, name: str, elsewhere: Iterable[str] = ()) -> None:
        """Keep with the backups that stored this archive that retention has removed it.

        Not with those to the stores `elsewhere`, which have it still.
        """
        self._database.write(
            "UPDATE jobs SET facts = json_set(facts, '$.removed', json('true'))"
            " WHERE kind = ? AND json_extract(facts, '$.archive') = ?"
            " AND coalesce(json_extract(facts, '$.store'), '') NOT IN (SELECT value FROM json_each(?))",
            (Kind.BACKUP, name, json.dumps(list(elsewhere))),
        )

    def _records(self, condition: str, *values: str) -> Iterator[JobRecord]:
        return map(job_record, self._rows(condition, *values))

    def _rows(self, condition: str, *values: str) -> Iterator[JobRow]:
        return self._database.rows(f"{_RECORD} FROM jobs WHERE {condition}", values)
