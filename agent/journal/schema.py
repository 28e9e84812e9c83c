"""The journal's file: its tables, how it is opened, and which errors mean that it is corrupt."""

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from agent.base.durable import closing_fd, sync_directory

_MIGRATIONS = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE commands (
        id INTEGER PRIMARY KEY, device TEXT NOT NULL, request_id TEXT NOT NULL, subject TEXT NOT NULL,
        correlation_id TEXT NOT NULL, digest BLOB NOT NULL, short INTEGER NOT NULL,
        boot_id TEXT NOT NULL, boot_s REAL NOT NULL, reply_topic TEXT, reply BLOB, job_id TEXT);
    CREATE INDEX commands_by_request ON commands (request_id, subject);
    CREATE TABLE jobs (
        id TEXT PRIMARY KEY, kind TEXT NOT NULL, correlation_id TEXT NOT NULL, started TEXT NOT NULL,
        directory BLOB NOT NULL, made TEXT NOT NULL, state TEXT NOT NULL, ended TEXT NOT NULL,
        status_code TEXT NOT NULL, message TEXT NOT NULL);
    CREATE TABLE staged (
        id INTEGER PRIMARY KEY AUTOINCREMENT, path BLOB NOT NULL UNIQUE, size INTEGER NOT NULL,
        sha256 TEXT NOT NULL, options TEXT NOT NULL);
    CREATE TABLE children (
        number INTEGER PRIMARY KEY, child_id TEXT NOT NULL UNIQUE, parent_id TEXT NOT NULL,
        staged_id INTEGER NOT NULL REFERENCES staged (id),
        asked_boot TEXT NOT NULL DEFAULT '', asked_s REAL NOT NULL DEFAULT 0);
    CREATE TABLE offers (
        parent_id TEXT PRIMARY KEY, total_bytes INTEGER NOT NULL, sent_bytes INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE checkpoints (
        owner TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (owner, key)) WITHOUT ROWID;
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, payload BLOB NOT NULL,
        property TEXT NOT NULL);
    CREATE TABLE twin (property TEXT PRIMARY KEY, payload BLOB NOT NULL) WITHOUT ROWID;
    """,
    """
    CREATE TABLE uploads (
        parent_id TEXT PRIMARY KEY, started TEXT NOT NULL, info TEXT NOT NULL) WITHOUT ROWID;
    """,
    """
    ALTER TABLE jobs ADD COLUMN facts TEXT NOT NULL DEFAULT '{}';
    """,
    """
    CREATE TABLE left_out (number INTEGER PRIMARY KEY, job_id TEXT NOT NULL UNIQUE, names BLOB NOT NULL);
    """,
    """
    CREATE TABLE upload_groups (
        id INTEGER PRIMARY KEY AUTOINCREMENT, parent_id TEXT NOT NULL, total_bytes INTEGER NOT NULL,
        sent_bytes INTEGER NOT NULL);
    INSERT INTO upload_groups (parent_id, total_bytes, sent_bytes)
        SELECT parent_id, total_bytes, sent_bytes FROM offers;
    DROP TABLE offers;
    ALTER TABLE children ADD COLUMN group_id INTEGER NOT NULL DEFAULT 0;
    UPDATE children SET group_id =
        (SELECT id FROM upload_groups WHERE upload_groups.parent_id = children.parent_id);
    CREATE TABLE upload_ids (
        id INTEGER PRIMARY KEY, parent_id TEXT NOT NULL UNIQUE, last_number INTEGER NOT NULL,
        newest_group INTEGER NOT NULL);
    INSERT INTO upload_ids (parent_id, last_number, newest_group)
        SELECT parent_id, max(CAST(substr(child_id, length(parent_id) + 2) AS INTEGER)), max(group_id)
        FROM children GROUP BY parent_id;
    """,
    """
    ALTER TABLE uploads ADD COLUMN group_id INTEGER NOT NULL DEFAULT 0;
    """,
    """
    CREATE TABLE archives (
        number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, source TEXT NOT NULL,
        files INTEGER, seen INTEGER NOT NULL);
    """,
    """
    ALTER TABLE archives ADD COLUMN bytes INTEGER;
    """,
)
"""Forward only: a release appends a script; `user_version` counts those that have run."""


_WAL_PAGES, _WAL_BYTES = 256, 1 << 20
"""The write-ahead log is copied when it has this many pages, and then cut to this size."""


LOCKED_S = 5
"""The time that a write waits for a write of a worker."""


class NewerJournal(Exception):
    """The journal was written by a later release; this one must not touch it."""


def connect(path: Path, *, any_thread: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=LOCKED_S, isolation_level=None, check_same_thread=not any_thread
    )
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA wal_autocheckpoint={_WAL_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit={_WAL_BYTES}")
        sync_always(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def read_only(path: Path) -> sqlite3.Connection:
    """Open a journal that may be in use, for reading. Raises sqlite3.Error when that is not possible."""
    # Without a log nobody uses it, and SQLite need not make one beside it.
    how = "mode=ro" if Path(f"{path}-wal").exists() else "mode=ro&immutable=1"
    return sqlite3.connect(f"{path.absolute().as_uri()}?{how}", timeout=LOCKED_S, uri=True)


def sync_always(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA synchronous=FULL")


_OPENING_BYTES, _SPARE_BYTES = 64 << 10, 256 << 10
"""The room that opening needs, for the log and its index; and the room that is reserved for a full disk."""
_DISK_OR_OTHERS = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
}


def make_private(path: Path) -> None:
    """Make the file if it is missing, and set its mode to 0600; SQLite copies the mode to its other files."""
    with closing_fd(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)) as file:
        if os.fstat(file).st_mode & 0o077:
            os.fchmod(file, 0o600)


def is_corrupt(error: Exception) -> bool:
    """Return True for an error that the journal's content causes, False for one of the disk or of a lock.

    SQLITE_READONLY means a damaged header: the file could be opened for writing.
    """
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return code & 0xFF not in _DISK_OR_OTHERS


def _check_schema(connection: sqlite3.Connection) -> None:
    """Raise DatabaseError unless the tables are those of the migrations and can be written."""
    connection.execute("DELETE FROM meta WHERE key = ''")  # fails in a file that is read-only
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"
    with closing(sqlite3.connect(":memory:")) as wanted:
        wanted.executescript(";".join(_MIGRATIONS))
        same = connection.execute(query).fetchall() == wanted.execute(query).fetchall()
    if not same:
        raise sqlite3.DatabaseError("the tables are not those of this release")


def opened(path: Path, *, any_thread: bool = False) -> sqlite3.Connection:
    """Open and check the journal; on a full disk, in the room that an earlier run has reserved.

    SQLite makes two files when it opens a journal, and maps one of them: without room that is a SIGBUS. An
    agent that cannot start on a full disk cannot be told to make room. Raises OSError without any room.
    """
    spare, status = path.with_name("spare"), os.statvfs(path.parent)
    if status.f_bavail * status.f_frsize < _OPENING_BYTES:
        spare.unlink(missing_ok=True)
        sync_directory(path.parent)  # only then ext4 has the room back
        if os.statvfs(path.parent).f_bfree * status.f_frsize < _OPENING_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    connection = _checked(path, connect(path, any_thread=any_thread))
    if not spare.exists():
        try:
            make_private(spare)
            spare.write_bytes(bytes(_SPARE_BYTES))
        except OSError:  # a later start tries again
            spare.unlink(missing_ok=True)
    return connection


def _checked(path: Path, connection: sqlite3.Connection) -> sqlite3.Connection:
    try:
        if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("quick_check failed")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(_MIGRATIONS):
            raise NewerJournal(
                f"journal '{path}' has version {version}, this release knows {len(_MIGRATIONS)}:"
                " install the release that wrote it, or move the file away"
            )
        for number, script in enumerate(_MIGRATIONS[version:], version + 1):
            connection.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version={number}; COMMIT")
        _check_schema(connection)
    except BaseException:
        connection.close()
        raise
    return connection
