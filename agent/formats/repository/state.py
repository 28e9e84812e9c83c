"""The device's memory of its last snapshot: its files, the signs that they are unchanged, their blobs.

A cache: a lost or damaged one is made again from the repository. One job writes it in one transaction, which
ends with its snapshot, so it always describes one that is stored. There is no write-ahead log: SQLite maps a
part of that into memory, and on a full disk that ends the process.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from agent.formats.repository.databases import Database
from agent.formats.repository.packs import Ids, ids_of, tree_key

ROOT = 1
"""The number of the directory `/`."""
WHOLE_DIRECTORY, _WHOLE_BYTES = 1024, 1 << 20
"""A directory with at most so many entries, and so many bytes of ids, is read at once."""
ROW_BYTES = 1 << 16
"""The ids in one row. Those of a large file go on in rows with its name, a byte 0 and a number."""
_CACHE_KIB = 4 << 10
_VERSION = 3
_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE directories (number INTEGER PRIMARY KEY, entries INTEGER NOT NULL);
CREATE TABLE entries (
    directory INTEGER NOT NULL, name BLOB NOT NULL, signature BLOB NOT NULL, content BLOB NOT NULL,
    child INTEGER NOT NULL, kind INTEGER NOT NULL, PRIMARY KEY (directory, name)) WITHOUT ROWID;
CREATE TABLE blobs (
    id BLOB PRIMARY KEY, uses INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX unused ON blobs (uses) WHERE uses <= 0;
"""


class Known(NamedTuple):
    """An entry of a directory in the last snapshot."""

    signature: bytes
    content: bytes
    """The ids of its chunks; for a directory, of its tree."""
    child: int
    """The number of a directory; 0 for anything else."""
    kind: int


class Row(NamedTuple):
    """An entry that the state has to remember."""

    directory: int
    name: bytes
    signature: bytes
    content: Ids
    child: int
    kind: int


class State(Database):
    """The state in a file. One transaction is always open, from the beginning on."""

    def __init__(self, path: Path, check: Callable[[], None]) -> None:
        """`check` ends long methods by raising."""
        self._check = check
        super().__init__(path, _CACHE_KIB)

    def _make_tables(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        (version,) = self._one("PRAGMA user_version")
        if version == 0:
            for statement in filter(str.strip, _SCHEMA.split(";")):
                self._database.execute(statement)
            self._database.execute("INSERT INTO directories VALUES (?, 0)", (ROOT,))
            self._database.execute(f"PRAGMA user_version={_VERSION}")
        elif version != _VERSION:
            raise sqlite3.DatabaseError(f"the state has version {version}")
        self._next = 1 + self._one("SELECT max(number) FROM directories")[0]

    def remember(self, **facts: str) -> None:
        self._database.executemany("REPLACE INTO facts VALUES (?, ?)", facts.items())

    def new_directory(self) -> int:
        """Return the number of a directory that the last snapshot has not."""
        number, self._next = self._next, self._next + 1
        return number

    def size_of(self, directory: int) -> int:
        """Return how many entries a directory has; 0 for a new one."""
        query = "SELECT entries FROM directories WHERE number = ?"
        found = self._database.execute(query, (directory,)).fetchone()
        return int(found[0]) if found else 0

    def entries(self, directory: int) -> dict[bytes, Known] | None:
        """Return all entries of a directory, by name; None when they take too much memory."""
        query = "SELECT name, signature, content, child, kind FROM entries WHERE directory = ? ORDER BY name"
        found, size_bytes = dict[bytes, Known](), 0
        for row, seen, content, child, kind in self._database.execute(query, (directory,)):
            if b"\0" in row:
                name = row.partition(b"\0")[0]
                found[name] = found[name]._replace(content=found[name].content + content)
            else:
                found[row] = Known(seen, content, child, kind)
            size_bytes += len(content)
            if size_bytes > _WHOLE_BYTES:
                return None
        return found

    def entry(self, directory: int, name: bytes) -> Known | None:
        query = "SELECT signature, content, child, kind FROM entries WHERE directory = ? AND name = ?"
        found = self._database.execute(query, (directory, name)).fetchone()
        if not found:
            return None
        signature, content, child, kind = found
        if len(content) == ROW_BYTES:
            query = "SELECT content FROM entries WHERE directory = ? AND name >= ? AND name < ? ORDER BY name"
            content = b"".join(part for (part,) in self._database.execute(query, _all_rows(directory, name)))
        return Known(signature, content, child, kind)

    def names(self, directory: int) -> Iterator[bytes]:
        """Yield the names in a directory, sorted."""
        query = "SELECT name FROM entries WHERE directory = ? ORDER BY name"
        for (name,) in self._database.execute(query, (directory,)):
            if b"\0" not in name:
                yield name

    def keep(self, rows: Iterable[Row]) -> None:
        """Remember entries, in place of those with these names, for which `make_way` was called."""
        parts = chain.from_iterable(map(_parts, rows))
        self._database.executemany("REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?)", parts)

    def make_way(self, directory: int, name: bytes, known: Known) -> None:
        """Prepare for another entry in the place of `known`, which may have had more rows."""
        if len(known.content) > ROW_BYTES:
            self._forget(directory, name)

    def _forget(self, directory: int, name: bytes) -> None:
        statement = "DELETE FROM entries WHERE directory = ? AND name >= ? AND name < ?"
        self._database.execute(statement, _all_rows(directory, name))

    def set_size(self, directory: int, entries: int) -> None:
        self._database.execute("REPLACE INTO directories VALUES (?, ?)", (directory, entries))

    def drop(self, directory: int, name: bytes, known: Known) -> None:
        """Forget an entry, and all that is below it."""
        self._check()
        self._forget(directory, name)
        self.release(known)

    def release(self, known: Known) -> None:
        """Give back the blobs of an entry, and forget all that is below it."""
        if not known.child:
            self.unuse(known.content)
            return
        self._unuse_keys([tree_key(known.content)])
        below = [known.child]
        while below:
            self._check()
            number = below.pop()
            query = "SELECT content, child FROM entries WHERE directory = ?"
            for content, child in self._database.execute(query, (number,)):
                if child:
                    self._unuse_keys([tree_key(content)])
                    below.append(child)
                else:
                    self.unuse(content)
            self._database.execute("DELETE FROM entries WHERE directory = ?", (number,))
            self._database.execute("DELETE FROM directories WHERE number = ?", (number,))

    def use(self, key: bytes) -> bool:
        """Count a use of a blob; return False when it is a new one, which has to be stored."""
        # Faster than one statement that returns what it did.
        insert = "INSERT OR IGNORE INTO blobs (id, uses) VALUES (?, 1)"
        is_new = self._database.execute(insert, (key,)).rowcount
        if not is_new:
            self._database.execute("UPDATE blobs SET uses = uses + 1 WHERE id = ?", (key,))
        return not is_new

    def unuse(self, content: bytes) -> None:
        """Give back the blobs of a content."""
        self._unuse_keys(ids_of(content))

    def unuse_tree(self, tree_id: bytes) -> None:
        self._unuse_keys([tree_key(tree_id)])

    def _unuse_keys(self, keys: Iterable[bytes]) -> None:
        statement = "UPDATE blobs SET uses = uses - 1 WHERE id = ?"
        self._database.executemany(statement, ((key,) for key in keys))

    def count_as_stored(self, keys: Iterable[bytes]) -> None:
        """Remember blobs that are stored, though nothing uses them yet."""
        insert = "INSERT OR IGNORE INTO blobs (id, uses) VALUES (?, 0)"
        self._database.executemany(insert, ((key,) for key in keys))

    def forget_all(self) -> None:
        """Forget the last snapshot, because its blobs may be gone: all will be sent again."""
        for table in ("entries", "blobs", "directories"):
            self._database.execute(f"DELETE FROM {table}")  # noqa: S608
        self._database.execute("INSERT INTO directories VALUES (?, 0)", (ROOT,))
        self._database.execute("DELETE FROM facts WHERE name LIKE 'snapshot%'")

    def commit(self) -> None:
        """Make everything durable, without the blobs that nothing uses any more."""
        self._database.execute("DELETE FROM blobs WHERE uses <= 0")
        self._database.execute("COMMIT")
        self._database.execute("BEGIN IMMEDIATE")

    def _one(self, query: str) -> tuple[int]:
        found: tuple[int] = self._database.execute(query).fetchone()
        return found


def _parts(row: Row) -> Iterable[Row]:
    """Return the rows of an entry. SQLite copies what is in a row twice, which is much for 8 MiB of ids."""
    if len(row.content) <= ROW_BYTES:
        return (row,)
    begins = range(0, len(row.content), ROW_BYTES)
    return (
        row._replace(
            name=row.name + (b"\0%08d" % begin if begin else b""),
            content=row.content[begin : begin + ROW_BYTES],
        )
        for begin in begins
    )


def _all_rows(directory: int, name: bytes) -> tuple[int, bytes, bytes]:
    """Return a directory and the bounds of the names of an entry's rows: no name has a byte 0."""
    return directory, name, name + b"\1"
