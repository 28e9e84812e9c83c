"""The packs of a snapshot that is not finished: a later job may count them as stored.

On the disk, because a job may be cut off at any moment: each pack is noted when the repository has it, and
its index is made at the end of the job.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from agent.formats.repository.databases import Database, opened
from agent.formats.repository.packs import Blob, blobs_in

_CACHE_KIB = 1 << 10
_SCHEMA = """
CREATE TABLE IF NOT EXISTS packs (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, header BLOB NOT NULL, indexed INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class PendingPacks(Database):
    """The packs in a file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _CACHE_KIB)

    def _make_tables(self) -> None:
        self._database.executescript(_SCHEMA)

    def add(self, name: str, header: bytes | bytearray) -> None:
        """Note a pack that the repository has, with its plain header."""
        self._database.execute("INSERT INTO packs (name, header) VALUES (?, ?)", (name, header))

    def blobs(self) -> Iterator[Blob]:
        for (header,) in self._database.execute("SELECT header FROM packs"):
            yield from blobs_in(header)

    def not_indexed(self) -> Iterator[tuple[str, Iterator[Blob]]]:
        """Yield the packs that no index names yet."""
        for name, header in self._database.execute("SELECT name, header FROM packs WHERE NOT indexed"):
            yield name, blobs_in(header)

    def indexed(self, names: Iterable[str]) -> None:
        """Note that the repository has an index of these packs."""
        self._database.execute("BEGIN IMMEDIATE")
        self._database.executemany("UPDATE packs SET indexed = 1 WHERE name = ?", ((name,) for name in names))
        self._add("indexes", 1)
        self._database.execute("COMMIT")

    def removed(self, name: str) -> None:
        """Forget a pack that is no more in the repository."""
        self._database.execute("DELETE FROM packs WHERE name = ?", (name,))

    def names(self) -> Iterator[str]:
        yield from (name for (name,) in self._database.execute("SELECT name FROM packs"))

    def __len__(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM packs").fetchone()[0])

    def remember(self, **facts: str) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        self._database.executemany("REPLACE INTO facts VALUES (?, ?)", facts.items())
        self._database.execute("COMMIT")

    def clear(self) -> None:
        """Forget all packs: a snapshot has them."""
        self._database.execute("BEGIN IMMEDIATE")
        self._forget()
        self._database.execute("COMMIT")

    def abandon(self) -> None:
        """Forget all packs, because somebody may have removed them; count them as left in the repository."""
        self._database.execute("BEGIN IMMEDIATE")
        self._add("left_packs", len(self))
        self._add("left_indexes", int(self.fact("indexes") or 0))
        self._forget()
        self._database.execute("COMMIT")

    def pruned(self) -> None:
        """Note that the repository has nothing left of abandoned packs."""
        self._database.execute("DELETE FROM facts WHERE name IN ('left_packs', 'left_indexes')")

    def lock_stays(self) -> None:
        """Count a lock that the device may not remove."""
        self._add("left_locks", 1)

    def _forget(self) -> None:
        self._database.execute("DELETE FROM packs")
        self._database.execute("DELETE FROM facts WHERE name = 'indexes'")

    def _add(self, name: str, number: int) -> None:
        self._database.execute(
            "INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            (name, str(number)),
        )


def pending_in(directory: Path) -> Iterator[PendingPacks]:
    """Yield what each series of a repository notes, opened. Raises sqlite3.Error."""
    for path in sorted(directory.glob("*.pending")):
        with closing(opened(PendingPacks, path)) as pending:
            yield pending


def locks_in(directory: Path) -> frozenset[str]:
    """Return the names of the locks that ended jobs of this device left. Raises sqlite3.Error."""
    return frozenset(name for pending in pending_in(directory) for name in pending.fact("locks").split())
