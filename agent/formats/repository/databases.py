"""The device's own databases about a repository: caches, which can be made again, and temporary ones."""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import TypeVar

import structlog

from agent.base.durable import sync_directory

log = structlog.get_logger(__name__)

Opened = TypeVar("Opened")


class Database(ABC):
    """A database of the device's own, with facts by name. Used by one thread. Methods raise sqlite3.Error."""

    def __init__(self, path: Path, cache_kib: int) -> None:
        """Open or make the file. Raises sqlite3.DatabaseError for a damaged one."""
        self._database = sqlite3.connect(path, isolation_level=None)
        try:
            self._database.execute(f"PRAGMA cache_size=-{cache_kib}")
            self._database.execute("PRAGMA synchronous=FULL")
            self._make_tables()
        except BaseException:
            self._database.close()
            raise

    @abstractmethod
    def _make_tables(self) -> None:
        """Make the tables, among them `facts`, unless they are there."""

    def fact(self, name: str) -> str:
        """Return a fact; "" for one that is not known."""
        found = self._database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return str(found[0]) if found else ""

    def close(self) -> None:
        """Close the file; what was not committed is undone."""
        self._database.close()


def opened(kind: Callable[[Path], Opened], path: Path) -> Opened:
    """Open one of the device's own databases, or a new one in place of one that is damaged or unknown."""
    try:
        return kind(path)
    except sqlite3.DatabaseError as error:
        if not _is_damaged(error):
            raise
        log.warning("damaged state of a repository removed", path=str(path), error=str(error))
        remove_state(path)
        return kind(path)
    finally:
        sync_directory(path.parent)


def remove_state(path: Path) -> None:
    for end in ("", "-journal"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + end).unlink()


def _is_damaged(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


def temporary_database(directory: Path, cache_kib: int, *tables: str) -> sqlite3.Connection:
    """Return a database in the directory, for any threads in turn. Raises sqlite3.Error and OSError.

    Its file has lost its name already, so it goes with the process at the latest. What a crash leaves in the
    moment before ends in `.part`, and the next start removes it.
    """
    path = directory / f"{token_hex(8)}.part"
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        path.unlink(missing_ok=True)
        for setting in (f"cache_size=-{cache_kib}", "journal_mode=OFF", "synchronous=OFF"):
            database.execute(f"PRAGMA {setting}")
        for table in tables:
            database.execute(table)
        database.execute("BEGIN")
    except BaseException:
        database.close()
        raise
    return database
