"""A look into the journal from outside, and a journal that cannot be written."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest


def sql(path: Path, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """Return the rows of a statement in the journal at `path`, over a connection of its own."""
    with closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as connection:
        return connection.execute(statement, values).fetchall()


def opened_connections(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """Connections that are opened from now on. That of a journal which is opened next is the first."""
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def noted(*arguments: Any, **options: Any) -> sqlite3.Connection:
        opened.append(connect(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", noted)
    return opened


@contextmanager
def unwritable(path: Path) -> Iterator[None]:
    """While inside, every change of the journal at `path` fails, as on a disk that is full."""
    tables = [name for (name,) in sql(path, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    changes = [(table, change) for table in tables for change in ("INSERT", "UPDATE", "DELETE")]
    changes = [(table, change) for table, change in changes if not table.startswith("sqlite_")]
    for table, change in changes:
        sql(
            path,
            f"CREATE TRIGGER full_{table}_{change} BEFORE {change} ON {table}"
            " BEGIN SELECT RAISE(ABORT, 'full'); END",
        )
    try:
        yield
    finally:
        for table, change in changes:
            sql(path, f"DROP TRIGGER full_{table}_{change}")
