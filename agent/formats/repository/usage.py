"""Which blobs the snapshots that stay need, and what a prune does with each pack, on the device's disk.

Memory does not grow with the blobs of the repository; a pack takes some ten bytes.
"""

from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from agent.base.errors import RepositoryBroken
from agent.formats.repository.blob_index import BlobIndex
from agent.formats.repository.packs import ID_BYTES, ids_of, tree_key

_MORE_COLUMNS = (
    "ALTER TABLE blobs ADD COLUMN used INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE packs ADD COLUMN size INTEGER",
    "ALTER TABLE packs ADD COLUMN pending INTEGER NOT NULL DEFAULT 0",
    "CREATE TABLE unnamed (pack TEXT PRIMARY KEY, size INTEGER) WITHOUT ROWID",
    "CREATE TABLE moving (pack INTEGER, at INTEGER, id BLOB, PRIMARY KEY (pack, at, id)) WITHOUT ROWID",
    "CREATE TABLE going (pack INTEGER PRIMARY KEY)",
)
_ENTRY_BYTES = 41
"""A blob's entry in the header of its pack."""
_FRAME_BYTES = 36
"""The rest of the header: it is encrypted, and its length follows."""
_PAGE = 500


class Plan(NamedTuple):
    """The plan of a prune for the packs, by their numbers."""

    unused: "array[int]"
    """Packs that nobody needs; some of them may be gone already."""
    rewritten: "array[int]"
    """Packs whose used blobs are to be moved, those with the smallest share of them first."""
    unused_bytes: int
    """The size of the first, and of packs that no index names."""
    gained_bytes: int
    """The bytes that the rewriting gains."""


class _PackUse(NamedTuple):
    """A pack that the repository has, with what snapshots need of it."""

    number: int
    size_bytes: int
    used_bytes: int

    @property
    def unused_bytes(self) -> int:
        return max(0, self.size_bytes - self.used_bytes - _FRAME_BYTES)


class Usage(BlobIndex):
    """The places of all blobs, and their use. Methods raise sqlite3.Error."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        for statement in _MORE_COLUMNS:
            self._database.execute(statement)

    def use_tree(self, tree_id: bytes) -> bool:
        """Mark a tree as used; return False when it was marked before. Raises `RepositoryBroken`."""
        key = tree_key(tree_id)
        if self._database.execute("UPDATE blobs SET used = 1 WHERE id = ? AND NOT used", (key,)).rowcount:
            return True
        if self.place(key) is None:
            raise self.missing()
        return False

    def use(self, content: bytes) -> None:
        """Mark the chunks of a content as used. Raises `RepositoryBroken` when one is missing."""
        before = self._database.total_changes
        rows = ((blob_id,) for blob_id in ids_of(content))
        self._database.executemany("UPDATE blobs SET used = 1 WHERE id = ?", rows)
        if self._database.total_changes - before != len(content) // ID_BYTES:
            raise self.missing()

    def add_stored(self, pack: str, size_bytes: int) -> None:
        """Remember a pack that the repository has, whether an index names it or not."""
        row = (size_bytes, pack)
        if not self._database.execute("UPDATE packs SET size = ? WHERE name = ?", row).rowcount:
            self._database.execute("INSERT OR IGNORE INTO unnamed (size, pack) VALUES (?, ?)", row)

    def keep_pending(self, packs: Iterable[str]) -> None:
        """Leave packs alone, because an interrupted job will go on with them."""
        for pack in packs:
            self._database.execute("UPDATE packs SET pending = 1 WHERE name = ?", (pack,))
            self._database.execute("DELETE FROM unnamed WHERE pack = ?", (pack,))

    def unnamed(self) -> Iterator[str]:
        """Yield the packs that no index names, in pages: they may be removed meanwhile."""
        last = ""
        query = "SELECT pack FROM unnamed WHERE pack > ? ORDER BY pack LIMIT ?"
        while page := self._database.execute(query, (last, _PAGE)).fetchall():
            yield from (pack for (pack,) in page)
            (last,) = page[-1]

    def plan(self, most_unused_percent: int, most_moved_bytes: int) -> Plan:
        """Decide: packs without a used blob go; others are rewritten until little enough is unused.

        Raises `RepositoryBroken` when a pack with used blobs is missing, or shorter than they need.
        """
        (unused_bytes,) = self._database.execute("SELECT total(size) FROM unnamed").fetchone()
        unused, partly, used_bytes = array("q"), list[_PackUse](), 0
        for pack in self._packs():
            used_bytes += pack.used_bytes
            if not pack.used_bytes:
                unused.append(pack.number)
                unused_bytes += pack.size_bytes
            elif pack.unused_bytes:
                partly.append(pack)
        allowed_bytes = _allowed(used_bytes, most_unused_percent)
        rewritten, gained_bytes = _rewritten(partly, allowed_bytes, most_moved_bytes)
        return Plan(unused, rewritten, int(unused_bytes), gained_bytes)

    def _packs(self) -> Iterator[_PackUse]:
        """Yield the packs that indexes name, but for those of interrupted jobs."""
        (most,) = self._database.execute("SELECT max(number) FROM packs").fetchone()
        used, ends = (array("q", bytes(8 * ((most or 0) + 1))) for _ in range(2))
        for pack, at, length in self._database.execute("SELECT pack, at, length FROM blobs WHERE used"):
            used[pack] += length + _ENTRY_BYTES
            ends[pack] = max(ends[pack], at + length)
        packs = "SELECT number, name, size FROM packs WHERE NOT pending"
        for number, name, size_bytes in self._database.execute(packs):
            if used[number] and (size_bytes or 0) < ends[number]:
                raise RepositoryBroken(f"the pack {name[:8]}, which snapshots need, is missing or was cut")
            yield _PackUse(number, size_bytes or 0, used[number])

    def begin_moving(self, packs: Iterable[int]) -> None:
        """List the used blobs of these packs, for `moving`."""
        self._going(packs)
        self._database.execute(
            "INSERT INTO moving SELECT pack, at, id FROM blobs"
            " WHERE used AND pack IN (SELECT pack FROM going)"
        )

    def moving(self, pack: int) -> Iterator[bytes]:
        """Yield the keys of the used blobs of a pack, in their order."""
        query = "SELECT id FROM moving WHERE pack = ? ORDER BY at"
        for (key,) in self._database.execute(query, (pack,)):
            yield key

    def name_of(self, pack: int) -> str:
        (name,) = self._database.execute("SELECT name FROM packs WHERE number = ?", (pack,)).fetchone()
        return str(name)

    def begin_going(self, packs: Iterable[int]) -> list[str]:
        """Begin to remove packs; return the indexes that name one of them."""
        self._going(packs)
        query = "SELECT DISTINCT file FROM named JOIN going USING (pack) ORDER BY file"
        return [file for (file,) in self._database.execute(query)]

    def stays(self, pack: str) -> bool:
        """Return True when a pack that an index names is not among those that go."""
        query = "SELECT 1 FROM packs JOIN going ON pack = number WHERE name = ?"
        return self._database.execute(query, (pack,)).fetchone() is None

    def forget_index(self, file: str) -> None:
        self._database.execute("DELETE FROM named WHERE file = ?", (file,))

    def _going(self, packs: Iterable[int]) -> None:
        self._database.execute("DELETE FROM going")
        self._database.executemany("INSERT INTO going VALUES (?)", ((pack,) for pack in packs))


def _allowed(used_bytes: int, percent: int) -> float:
    """Return how many unused bytes may stay, when they may be a percentage of all."""
    return used_bytes * percent / (100 - percent) if percent < 100 else float("inf")


def _rewritten(
    partly: list[_PackUse], allowed_bytes: float, most_moved_bytes: int
) -> tuple["array[int]", int]:
    """Return the packs to rewrite, and how many bytes that gains."""
    rewritten, gained_bytes, moved_bytes = array("q"), 0, 0
    left_bytes = sum(pack.unused_bytes for pack in partly)
    for pack in sorted(partly, key=lambda pack: pack.used_bytes / pack.size_bytes):
        moved_bytes += pack.used_bytes
        if left_bytes <= allowed_bytes or moved_bytes > most_moved_bytes:
            break
        left_bytes -= pack.unused_bytes
        gained_bytes += pack.unused_bytes
        rewritten.append(pack.number)
    return rewritten, gained_bytes
