"""Checkpoints of transfers and restores, in the journal, for the threads that work."""

import sqlite3
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.base.errors import IoError, NoSpace
from agent.journal.file import connect


@contextmanager
def _disk_trouble() -> Iterator[None]:
    """Raise `NoSpace` or `IoError` when the disk does not let SQLite work."""
    try:
        yield
    except sqlite3.OperationalError as error:
        full = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL
        reason = "the disk is full" if full else "the disk fails"
        raise (NoSpace if full else IoError)(f"cannot write the agent's journal: {reason}") from error


class JournalCheckpoint(MutableMapping[str, str]):
    """How far the transfer of `owner` has come. Every change is on the disk when it returns.

    Raises `NoSpace` and `IoError`, as any work of a job does when the device's disk fails.
    """

    def __init__(self, path: Path, owner: str) -> None:
        with _disk_trouble():
            self._db = connect(path)
        self._owner = owner

    def _rows(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        with _disk_trouble():
            return self._db.execute(query, (self._owner, *values)).fetchall()

    def __getitem__(self, key: str) -> str:
        rows = self._rows("SELECT value FROM checkpoints WHERE owner = ? AND key = ?", key)
        if not rows:
            raise KeyError(key)
        return str(rows[0][0])

    def __setitem__(self, key: str, value: str) -> None:
        self._rows("REPLACE INTO checkpoints VALUES (?, ?, ?)", key, value)

    def __delitem__(self, key: str) -> None:
        if not self._rows("DELETE FROM checkpoints WHERE owner = ? AND key = ? RETURNING key", key):
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter([key for (key,) in self._rows("SELECT key FROM checkpoints WHERE owner = ?")])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def close(self) -> None:
        self._db.close()
