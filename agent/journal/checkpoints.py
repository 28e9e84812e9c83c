"""Checkpoints: how far the transfers and restores of an owner (a job, a staged archive) have come."""

import sqlite3
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.base.errors import IoError, NoSpace
from agent.base.job import STOPPED, WORKING, State
from agent.journal.intact import is_damage
from agent.journal.schema import connect
from agent.journal.unit import Table

LASTING = (WORKING, STOPPED)
"""Checkpoints that outlive their job: the next start of the agent acts on them."""


class Checkpoints(Table):
    """Checkpoints as the main thread sees them."""

    def of(self, owner: str) -> dict[str, str]:
        return dict(self._database.read("SELECT key, value FROM checkpoints WHERE owner = ?", (owner,)))

    def keep(self, owner: str, key: str, value: str) -> None:
        self._database.write("REPLACE INTO checkpoints VALUES (?, ?, ?)", (owner, key, value))

    def replace(self, owner: str, key: str, value: str) -> None:
        """Replace a checkpoint; do nothing when it does not exist."""
        self._database.write(
            "UPDATE checkpoints SET value = ? WHERE owner = ? AND key = ?", (value, owner, key)
        )

    def abandoned(self) -> list[str]:
        """Return the ended jobs that left something at a provider."""
        rows = self._database.read(
            "SELECT DISTINCT owner FROM checkpoints JOIN jobs ON owner = id"
            " WHERE state NOT IN (?, ?) AND key NOT IN (?, ?)",
            (State.STARTED, State.PREVIEW, *LASTING),
        )
        return [owner for (owner,) in rows]


@contextmanager
def _disk_trouble() -> Iterator[None]:
    """Raise `NoSpace` or `IoError` when the disk does not let SQLite work."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        full = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL
        reason = "the disk is full" if full else "it is damaged" if is_damage(error) else "the disk fails"
        raise (NoSpace if full else IoError)(f"cannot write the agent's journal: {reason}") from error


class JournalCheckpoint(MutableMapping[str, str]):
    """The checkpoints of `owner`, for the thread of a worker. Every change is on the disk at once.

    Raises `NoSpace` and `IoError`, like all work of a job when the device's disk fails.
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
