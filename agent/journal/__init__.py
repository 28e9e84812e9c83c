"""The state that must survive a power cut, in SQLite: jobs, commands, staged archives, unsent messages.

It has a write-ahead log and `synchronous=FULL`: a unit of work is on the disk when it ends; the exception is
`OutboxStore.delivered`. Progress is never written (flash wears), and neither are credentials. The connection
belongs to the main thread; a checkpoint of a worker opens its own.
"""

import json
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import structlog

from agent.base.durable import sync_directory
from agent.journal.archives import ArchiveRecords, SkippedNames
from agent.journal.checkpoints import Checkpoints, JournalCheckpoint
from agent.journal.commands import Commands
from agent.journal.intact import JournalFiles
from agent.journal.jobs import KEPT_JOBS, Jobs, UnfinishedJob
from agent.journal.notes import DEVICE, LAST_SUCCESS, LAST_VERIFIED, Notes
from agent.journal.outbox import OutboxStore
from agent.journal.schema import is_corrupt, make_private, opened, read_only
from agent.journal.staged import StagedArchives, UnendedUploads
from agent.journal.unit import Database, JournalError, Unit

__all__ = ["DEVICE", "KEPT_JOBS", "LAST_SUCCESS", "LAST_VERIFIED"]
__all__ += ["Journal", "JournalError", "JournalReader", "UnfinishedJob", "Unit"]

log = structlog.get_logger(__name__)


class JournalReader:
    """A view of the journal for programs beside the agent; nothing is written, and the agent may run."""

    def __init__(self, path: Path) -> None:
        """Raises `JournalError` when there is no journal, or this user may not read it."""
        self._database = Database(read_only(path), JournalFiles(path))
        self.notes, self.archives = Notes(self._database), ArchiveRecords(self._database)

    def close(self) -> None:
        self._database.close()


class Journal:
    """The journal, with one attribute for each subject."""

    def __init__(self, path: Path, *, kept_jobs: int = KEPT_JOBS, any_thread: bool = False) -> None:
        """Open or create the journal with mode 0600. A corrupt one is set aside and a fresh one begun.

        The history keeps the last `kept_jobs` jobs. With `any_thread` one thread after the other may use it.
        Raises `NewerJournal`, and OSError or sqlite3.OperationalError when the disk does not allow it.
        """
        self.path, self._any_thread = path, any_thread
        make_private(path)
        try:
            self._open(kept_jobs)
        except (sqlite3.Error, ValueError, LookupError, TypeError) as error:
            if not is_corrupt(error):
                raise
            aside = self._set_aside()
            log.error("journal corrupt, new one started", journal=str(path), set_aside=str(aside))
            self._open(kept_jobs)
        # SQLite syncs what it writes, but not always the names of the journal and its log.
        sync_directory(path.parent)

    def _open(self, kept_jobs: int) -> None:
        self._database = database = Database(
            opened(self.path, any_thread=self._any_thread), JournalFiles(self.path)
        )
        self.notes = Notes(database)
        self.jobs = Jobs(database, self.notes, kept_jobs)
        self.skipped, self.archives = SkippedNames(database), ArchiveRecords(database)
        self.commands = Commands(database)
        self.staged, self.uploads = StagedArchives(database), UnendedUploads(database)
        self.checkpoints, self.outbox = Checkpoints(database), OutboxStore(database)
        try:
            self._read_all()
        except BaseException:
            database.close()
            raise

    def _read_all(self) -> None:
        """Raise one of the errors of a corrupt journal when something in it cannot be read."""
        for (table,) in self._database.read("SELECT name FROM sqlite_master WHERE type = 'table'"):
            self._database.read(f"SELECT * FROM {table}")  # noqa: S608 (our own names)
        for unfinished in self.jobs.unfinished():
            json.loads(unfinished.working or "[]")
        self.outbox.last_values()
        for _number, _topic, payload, _property in self.outbox.kept():
            json.loads(payload)

    def _set_aside(self) -> Path:
        aside = self.path.with_name(f"{self.path.name}.corrupt-{secrets.token_hex(4)}")
        for suffix in ("-wal", "-shm", ""):
            if (file := Path(f"{self.path}{suffix}")).exists():
                file.rename(f"{aside}{suffix}")
        make_private(self.path)
        return aside

    def close(self) -> None:
        self._database.close()

    def when_broken(self, broken: Callable[[str], None]) -> None:
        """Call `broken` with a sentence about the journal's files before `JournalBroken` is raised."""
        self._database.broken = broken

    def check(self) -> None:
        """Raise `JournalBroken` unless the journal is in place and whole."""
        self._database.check()

    def unit(self) -> AbstractContextManager[Unit]:
        """Open a unit of work: its writes are kept all or nothing, and its actions follow after COMMIT.

        A unit inside another one is part of it. Raises `JournalError`, and then nothing was kept.
        """
        return self._database.unit()

    def checkpoint(self, owner: str) -> JournalCheckpoint:
        """Return the checkpoints of `owner`, for the calling thread."""
        return JournalCheckpoint(self.path, owner)
