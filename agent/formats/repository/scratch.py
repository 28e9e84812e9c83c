"""Temporary databases, for the parts of a job that may be too large for memory."""

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from secrets import token_hex

_CACHE_KIB = 4 << 10
_NODES = """
CREATE TABLE nodes (directory INTEGER, name BLOB, json BLOB, PRIMARY KEY (directory, name)) WITHOUT ROWID
"""


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


class Scratch:
    """Sorts the nodes of directories by name. Used by one thread.

    Methods raise sqlite3.Error, and OSError when they are the first.
    """

    def __init__(self, directory: Path) -> None:
        """Take the directory for the file, which is made when something is put in."""
        self._directory = directory
        self._database: sqlite3.Connection | None = None

    def add(self, directory: int, nodes: Iterable[tuple[bytes, bytes]]) -> None:
        """Put in nodes of a directory: names, each with its JSON."""
        rows = ((directory, name, json) for name, json in nodes)
        self._opened().executemany("INSERT INTO nodes VALUES (?, ?, ?)", rows)

    def nodes(self, directory: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield the nodes of a directory by name."""
        yield from self._opened().execute(
            "SELECT name, json FROM nodes WHERE directory = ? ORDER BY name", (directory,)
        )

    def remove(self, directory: int) -> None:
        self._opened().execute("DELETE FROM nodes WHERE directory = ?", (directory,))

    def close(self) -> None:
        if self._database:
            self._database.close()

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            self._database = temporary_database(self._directory, _CACHE_KIB, _NODES)
        return self._database
