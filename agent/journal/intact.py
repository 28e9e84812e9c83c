"""Checks that the open journal is still the one on the disk, and that it is whole.

Somebody may remove, replace, cut or overwrite its files, or move the storage, while the agent runs. SQLite
goes on with files that have lost their names, and all that it writes there is lost at the next start.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

_DAMAGED = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_IOERR_SHORT_READ,
    sqlite3.SQLITE_READONLY_DBMOVED,
}
_LOG_HEADER_BYTES = 32
_LOG_MAGIC = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
"""The first bytes of a write-ahead log, see https://www.sqlite.org/fileformat.html section 4.1."""


class JournalBroken(sqlite3.DatabaseError):
    """The journal cannot be used any more. The message names the file and says what happened to it."""


def is_damage(error: sqlite3.Error) -> bool:
    """Return True for an error in the journal's files, False for one of the disk or of a statement."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code in _DAMAGED or code & 0xFF in _DAMAGED


class JournalFiles:
    """The files of an open journal, as they were at the last look."""

    def __init__(self, path: Path) -> None:
        self._path, self._log = path, Path(f"{path}-wal")
        self._directory, self._file = _status(path.parent), _status(path)
        self._log_was: os.stat_result | None = None

    def problem(self) -> str:
        """Return what happened to the files; empty while they are in place. Takes a few system calls."""
        if not _is_same(self._directory, _status(self._path.parent)):
            return f"the storage '{self._path.parent}' was moved, removed or replaced"
        file = _status(self._path)
        if not _is_same(self._file, file):
            return f"the journal '{self._path}' was moved, removed or replaced"
        if file and self._file and file.st_size < self._file.st_size:
            return f"the journal '{self._path}' was cut"
        return self._log_problem()

    def _log_problem(self) -> str:
        log, before = _status(self._log), self._log_was
        if before and not _is_same(before, log):
            return f"the journal's log '{self._log}' was moved, removed or replaced"
        if before and not self._log_begins_well():
            return f"the journal's log '{self._log}' was cut or overwritten"
        if log and log.st_size >= _LOG_HEADER_BYTES:
            self._log_was = log
        return ""

    def _log_begins_well(self) -> bool:
        """Return True when the log has its header.

        The size alone does not tell: SQLite writes on where it was, and a cut file is soon as long as before.
        """
        try:
            with open(self._log, "rb", buffering=0) as log:
                return log.read(4) in _LOG_MAGIC
        except FileNotFoundError:  # only just removed: the next look says so
            return True

    @property
    def log_is_gone(self) -> bool:
        """Return True when the log was removed and not replaced: the connection still has its content."""
        return self._log_was is not None and _status(self._log) is None

    def damage(self) -> str:
        """Return the damage in the content; empty when it is good, or unchanged since the last look."""
        file = _status(self._path)
        if file is None or (self._file and file.st_mtime_ns == self._file.st_mtime_ns):
            return ""
        try:
            with closing(sqlite3.connect(self._path, timeout=1, isolation_level=None)) as fresh:
                (found,) = fresh.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.Error as error:
            found = str(error) if is_damage(error) else "ok"
        self._file = file
        return "" if found == "ok" else self.described(found)

    def described(self, what: object) -> str:
        """Return the sentence for an error that SQLite found in the content."""
        return f"the journal '{self._path}' is damaged: {what}"


def _status(path: Path) -> os.stat_result | None:
    """Return the status of a file; None when there is no file. Raises OSError for any other reason."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_same(before: os.stat_result | None, now: os.stat_result | None) -> bool:
    return before is None or (now is not None and (before.st_dev, before.st_ino) == (now.st_dev, now.st_ino))
