"""What must survive a power cut, in SQLite: jobs, staged archives, upload checkpoints, unsent messages.

Write-ahead log and `synchronous=FULL`: a committed transaction is on the disk, but for one kind that says
so. Progress is never written here (flash wears), and neither are options with credentials. The connection
belongs to the main thread; a worker's checkpoint opens one of its own.
"""

import json
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

import structlog

from agent.base.durable import sync_directory
from agent.base.errors import IoError
from agent.base.job import STOPPED, WORKING, Job, Kind, State, format_time, parse_time
from agent.journal.checkpoints import JournalCheckpoint
from agent.journal.file import is_corrupt, make_private, opened, sync_always
from agent.restore import Left, read_left

log = structlog.get_logger(__name__)


_LASTING = (WORKING, STOPPED)
"""Checkpoints that outlive their job: the next start of the agent does what they ask for."""
KEPT_JOBS = 1000
KEPT_COMMANDS = 1000
DEVICE = "device"
"""The note of who the device is, for those who cannot ask the broker."""
LAST_SUCCESS = "last_success"
"""The note of when the last backup ended that ended well; it outlives the job's record."""
CROWDED_BYTES, FULL_BYTES = 4 << 20, 6 << 20
"""Ids and messages may be long: between these sizes the journal keeps less and less of its history."""


@dataclass(frozen=True, slots=True)
class UnfinishedJob:
    """A job that the agent did not see to its end, and what it worked on."""

    job: Job
    directory: Path
    made: list[Path]
    """Directories that a restore made before it began, outermost first."""
    working: list[Left]
    """Where a restore may have left something, the place that decides first."""


class Journal:
    """Also the outbox's store (see `agent.mqtt.outbox.Store`)."""

    def __init__(self, path: Path, *, kept_jobs: int = KEPT_JOBS) -> None:
        """Open or create the journal with mode 0600. A corrupt one is set aside and a fresh one begun.

        `kept_jobs` is how many jobs that have ended are kept.
        Raises `NewerJournal`, and OSError or sqlite3.OperationalError when the disk does not allow it.
        """
        self.path, self._kept_jobs = path, kept_jobs
        make_private(path)
        try:
            self._db = opened(path)
            self._read_all()
        except (sqlite3.Error, ValueError, LookupError, TypeError) as error:
            if not is_corrupt(error):
                raise
            aside = self._set_aside()
            log.error("journal is corrupt, a fresh one is started", journal=str(path), set_aside=str(aside))
            self._db = opened(path)
        # SQLite syncs what it writes, but not always the names of the journal and its log.
        sync_directory(path.parent)

    def _read_all(self) -> None:
        """Raise one of the errors of a corrupt journal when something in it cannot be read."""
        try:
            for (table,) in self._db.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
            ).fetchall():
                self._db.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 (our own names)
            self.unfinished_jobs()
            self.last_values()
            for _number, _topic, payload, _property in self.kept():
                json.loads(payload)
        except BaseException:
            self._db.close()
            raise

    def _set_aside(self) -> Path:
        aside = self.path.with_name(f"{self.path.name}.corrupt-{secrets.token_hex(4)}")
        for suffix in ("-wal", "-shm", ""):
            if (file := Path(f"{self.path}{suffix}")).exists():
                file.rename(f"{aside}{suffix}")
        make_private(self.path)
        return aside

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, one sync; inside another transaction it is part of that one."""
        if self._db.in_transaction:
            yield self._db
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            # Also after a COMMIT that a full disk refused: what comes next must not join what has failed.
            self._db.rollback()  # nothing happens where SQLite has done it
            raise

    def room_for(self, wanted: int) -> int:
        """How much of a history of `wanted` entries there is room for."""
        (used_bytes,) = self._db.execute(
            "SELECT (page_count - freelist_count) * page_size"
            " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
        ).fetchone()
        left = (FULL_BYTES - used_bytes) / (FULL_BYTES - CROWDED_BYTES)
        return max(1, int(wanted * min(left, 1)))

    @contextmanager
    def _unsynced(self) -> Iterator[sqlite3.Connection]:
        """A transaction that survives a kill, but a power cut only when a later one was synced."""
        # The level cannot be changed inside a transaction; there, its own sync is what counts.
        self._db.execute("PRAGMA synchronous=NORMAL")
        try:
            with self.transaction() as db:
                yield db
        finally:
            sync_always(self._db)

    def remembered(self, key: str) -> str:
        """A random text that is made once and stays: the client id, the key of the payload digests."""
        if (known := self.recall(key)) is not None:
            return known
        self.note(key, made := secrets.token_hex(8))
        return made

    def recall(self, key: str) -> str | None:
        """What was noted under this key."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else None

    def note(self, key: str, value: str) -> None:
        with self.transaction() as db:
            db.execute("REPLACE INTO meta VALUES (?, ?)", (key, value))

    def read(self, query: str, values: Mapping[str, object]) -> sqlite3.Cursor:
        """The rows that a SELECT finds."""
        return self._db.execute(query, values)

    # Jobs

    def job_started(
        self,
        job: Job,
        directory: Path,
        made: Iterable[Path],
        facts: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        """`facts` are for the history, whatever becomes of the job."""
        with self.transaction() as db:
            db.execute(
                "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', '', ?)",
                (job.id, job.kind, job.correlation_id, format_time(job.started), os.fsencode(directory),
                 json.dumps([os.fspath(path) for path in made]), job.state, format_time(None),
                 json.dumps(dict(facts))),
            )  # fmt: skip

    def job_ended(self, job: Job, facts: Mapping[str, object] = MappingProxyType({})) -> None:
        """Keep how the job ended, and `facts` about it for the history, beside those of its start."""
        with self.transaction() as db:
            row = db.execute("SELECT facts FROM jobs WHERE id = ?", (job.id,)).fetchone()
            known = json.loads(row[0]) if row else {}
            db.execute(
                "UPDATE jobs SET state = ?, ended = ?, status_code = ?, message = ?, facts = ? WHERE id = ?",
                (
                    job.state,
                    format_time(job.ended),
                    job.status_code,
                    job.message,
                    json.dumps(known | dict(facts)),
                    job.id,
                ),
            )
            if job.kind is Kind.BACKUP and job.state is State.FINISHED:
                self.note(LAST_SUCCESS, format_time(job.ended))
            if job.kind is not Kind.BACKUP:
                # How far its download came is of no use any more; what it left in its target is. What a
                # backup left at a provider stays too, until a later job there removes it.
                db.execute(
                    "DELETE FROM checkpoints WHERE owner = ? AND key NOT IN (?, ?)", (job.id, *_LASTING)
                )
            db.execute(
                "DELETE FROM jobs WHERE state NOT IN (?, ?)"
                " AND id NOT IN (SELECT owner FROM checkpoints WHERE key IN (?, ?))"
                " AND rowid NOT IN (SELECT rowid FROM jobs ORDER BY rowid DESC LIMIT ?)",
                (State.STARTED, State.PREVIEW, *_LASTING, self.room_for(self._kept_jobs)),
            )
            # A place that never comes back must not make the journal grow for ever.
            db.execute(
                "DELETE FROM checkpoints WHERE owner NOT LIKE 'staged-%'"
                " AND owner NOT IN (SELECT id FROM jobs)"
            )

    def unfinished_jobs(self) -> list[UnfinishedJob]:
        """Jobs that were running when the agent stopped, previews, and restores that left something."""
        rows = self._db.execute(
            "SELECT id, kind, correlation_id, started, state, directory, made,"
            " (SELECT value FROM checkpoints WHERE owner = id AND key = ?) FROM jobs"
            " WHERE state IN (?, ?) OR id IN (SELECT owner FROM checkpoints WHERE key IN (?, ?))",
            (WORKING, State.STARTED, State.PREVIEW, *_LASTING),
        ).fetchall()
        return [
            UnfinishedJob(
                Job(job_id, Kind(kind), correlation_id, parse_time(started), State(state)),
                Path(os.fsdecode(directory)),
                [Path(path) for path in json.loads(made)],
                read_left(working),
            )
            for job_id, kind, correlation_id, started, state, directory, made, working in rows
        ]

    def untidy_since(self) -> datetime | None:
        """When the first backup began that may have left a file in a target: cut off, or by its disk."""
        query = "SELECT min(started) FROM jobs WHERE kind = ? AND (state = ? OR status_code = ?)"
        (started,) = self._db.execute(query, (Kind.BACKUP, State.STARTED, IoError.code)).fetchone()
        return parse_time(started) if started else None

    def abandoned(self) -> list[str]:
        """Owners of checkpoints that nobody will continue: jobs that left something at a provider."""
        rows = self._db.execute(
            "SELECT DISTINCT owner FROM checkpoints JOIN jobs ON owner = id"
            " WHERE state NOT IN (?, ?) AND key NOT IN (?, ?)",
            (State.STARTED, State.PREVIEW, *_LASTING),
        ).fetchall()
        return [owner for (owner,) in rows]

    def checkpoint(self, owner: str) -> "JournalCheckpoint":
        """How far the work of `owner` has come; for the thread that calls."""
        return JournalCheckpoint(self.path, owner)

    # Messages that must arrive, and the last values that did

    def keep(self, topic: str, payload: bytes, property_name: str) -> int:
        with self.transaction() as db:
            cursor = db.execute(
                "INSERT INTO outbox (topic, payload, property) VALUES (?, ?, ?)",
                (topic, payload, property_name),
            )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def delivered(self, number: int) -> None:
        """Not synced, which spares the flash half of all syncs: after a power cut the message may still be
        there and is sent once more, identical."""
        with self._unsynced() as db:
            db.execute(
                "REPLACE INTO twin SELECT property, payload FROM outbox WHERE id = ? AND property != ''",
                (number,),
            )
            db.execute("DELETE FROM outbox WHERE id = ?", (number,))

    def give_up(self, numbers: Iterable[int]) -> None:
        with self.transaction() as db:
            db.executemany("DELETE FROM outbox WHERE id = ?", [(number,) for number in numbers])

    def kept(self) -> list[tuple[int, str, bytes, str]]:
        return self._db.execute("SELECT id, topic, payload, property FROM outbox ORDER BY id").fetchall()

    def last_value(self, property_name: str) -> object:
        """The newest value of a property of the twin, delivered or still waiting; None when there is none."""
        row = self._db.execute(
            "SELECT payload FROM (SELECT payload, id FROM outbox WHERE property = ?1 UNION ALL"
            " SELECT payload, 0 FROM twin WHERE property = ?1) ORDER BY id DESC LIMIT 1",
            (property_name,),
        ).fetchone()
        return json.loads(row[0])["value"] if row else None

    def last_values(self) -> dict[str, object]:
        """The last value of each property of the twin that has arrived."""
        rows = self._db.execute("SELECT property, payload FROM twin")
        return {name: json.loads(payload)["value"] for name, payload in rows}
