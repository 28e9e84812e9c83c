"""The nodes of directories that are too large for memory, sorted, in a temporary file."""

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from agent.formats.repository.state import remove_state

_CACHE_KIB = 4 << 10


class Scratch:
    """Sorts nodes by directory and name. Used by one thread. Methods raise sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        """The file is made when something is put in."""
        self._path = path
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
            remove_state(self._path)

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            remove_state(self._path)
            self._database = sqlite3.connect(self._path, isolation_level=None)
            for setting in (f"cache_size=-{_CACHE_KIB}", "journal_mode=OFF", "synchronous=OFF"):
                self._database.execute(f"PRAGMA {setting}")
            self._database.execute(
                "CREATE TABLE nodes (directory INTEGER, name BLOB, json BLOB, PRIMARY KEY (directory, name))"
                " WITHOUT ROWID"
            )
            self._database.execute("BEGIN")
        return self._database
