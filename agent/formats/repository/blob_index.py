"""The places of all blobs of a repository, from its indexes, on the device's disk.

Memory does not grow with the repository. A damaged index is an error; a pack that no index names is not seen.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from weakref import finalize

from agent.base.errors import RepositoryBroken
from agent.formats.repository.crypto import OVERHEAD_BYTES, Cryptor
from agent.formats.repository.databases import temporary_database
from agent.formats.repository.json_stream import items_in_parts
from agent.formats.repository.objects import Kind, Objects
from agent.formats.repository.packs import Blob, id_in
from agent.formats.repository.unpacked import unpacked_pieces

_CACHE_KIB = 2 << 10
_TABLES = (
    "CREATE TABLE packs (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE named (file TEXT, pack INTEGER, PRIMARY KEY (file, pack)) WITHOUT ROWID",
    "CREATE TABLE blobs (id BLOB PRIMARY KEY, pack INTEGER, at INTEGER, length INTEGER, plain INTEGER)"
    " WITHOUT ROWID",
    "CREATE TABLE needed (pack INTEGER, block INTEGER, begin INTEGER, end INTEGER, times INTEGER,"
    " PRIMARY KEY (pack, block)) WITHOUT ROWID",
    "CREATE TABLE sample (pack INTEGER PRIMARY KEY)",
    "CREATE TABLE chosen (pack INTEGER, at INTEGER, length INTEGER, plain INTEGER, id BLOB,"
    " PRIMARY KEY (pack, at)) WITHOUT ROWID",
)
BLOCK_BYTES = 1 << 20
"""Packs are fetched in blocks of this size."""
MOST_BYTES = 32 << 20
"""The longest index that is read; writers end one at 8 MiB."""
_MOST_BLOBS = 10_000_000
"""The most that are listed on the device's disk, in about 1 GiB."""
_PART_BLOBS = 500
_BLOB = "INSERT OR IGNORE INTO blobs (id, pack, at, length, plain) VALUES (?, ?, ?, ?, ?)"
_NOTED = (
    "INSERT INTO needed VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET times = times + excluded.times,"
    " begin = min(begin, excluded.begin), end = max(end, excluded.end)"
)
_CHOSEN = (
    "INSERT OR IGNORE INTO chosen SELECT pack, at, length, plain, id FROM blobs"
    " WHERE id = ? AND pack IN (SELECT pack FROM sample)"
)
_MOST_NOTED = 1000
_MOST_OFFSET = 1 << 32
"""Packs are shorter: the lengths in their headers are 32-bit numbers."""


class Place(NamedTuple):
    """The place of a blob."""

    key: bytes
    """As in `packs.Blob`."""
    pack: str
    offset: int
    length: int
    """Bytes in the pack, encrypted."""
    plain_bytes: int
    """Bytes of the plain content; 0 for one that is not compressed."""
    number: int
    """The pack as a number: blobs in the order of (number, offset) are read best."""

    @property
    def content_bytes(self) -> int:
        """Return the bytes of the plain content."""
        return self.plain_bytes or self.length - OVERHEAD_BYTES


class Block(NamedTuple):
    """A block of a pack."""

    pack: int
    """The number of the pack."""
    number: int


class Needed(NamedTuple):
    """The part of a block that a snapshot needs."""

    begin: int
    """An offset in the block, as is `end`."""
    end: int
    times: int
    """How many chunks of files, or parts of them, are in it."""


class BlobIndex:
    """The places of all blobs, in a temporary file. Used by one thread at a time.

    Methods raise sqlite3.Error.
    """

    def __init__(self, directory: Path) -> None:
        """Make the file in the directory; raises OSError, too."""
        self._database = temporary_database(directory, _CACHE_KIB, *_TABLES)
        finalize(self, self._database.close)
        self._blobs = 0
        self._noted: dict[Block, Needed] = {}
        """Notes that are not in the database yet: many chunks of a file share one block."""
        self.damage: RepositoryBroken | None = None
        """The damage of an index that was passed over."""

    def load(self, objects: Objects, cryptor: Cryptor, check: Callable[[], None]) -> None:
        """Read all indexes, and pass over those that were altered: not every snapshot needs all of them.

        Raises `RepositoryBroken` for what cannot be true, StorageError and what `check` raises.
        """
        for name, _ in objects.list(Kind.INDEX):
            check()
            try:
                index = unpacked_pieces(objects, cryptor, Kind.INDEX, name, MOST_BYTES)
            except RepositoryBroken as error:
                self.damage = error
                continue
            for pack, blobs in packs_in(index):
                self._add(name, pack, blobs)

    def _add(self, file: str, pack: str, blobs: Sequence[Blob]) -> None:
        number = self.add_pack(file, pack)
        self._blobs += len(blobs)
        if self._blobs > _MOST_BLOBS:
            raise RepositoryBroken(f"the indexes of the repository name over {_MOST_BLOBS} blobs")
        self._database.executemany(_BLOB, ((blob.key, number, *blob[2:]) for blob in blobs))

    def add_pack(self, file: str, pack: str) -> int:
        """Remember that an index names a pack; return its number."""
        self._database.execute("INSERT OR IGNORE INTO packs (name) VALUES (?)", (pack,))
        (number,) = self._database.execute("SELECT number FROM packs WHERE name = ?", (pack,)).fetchone()
        self._database.execute("INSERT OR IGNORE INTO named VALUES (?, ?)", (file, number))
        return int(number)

    def place(self, key: bytes) -> Place | None:
        """Return the place of a blob: its id, or for a tree `packs.tree_key` of it."""
        query = (
            "SELECT id, name, at, length, plain, pack FROM blobs JOIN packs ON packs.number = blobs.pack"
            " WHERE id = ?"
        )
        found = self._database.execute(query, (key,)).fetchone()
        return Place(*found) if found else None

    def missing(self) -> RepositoryBroken:
        """Return the error for a blob that has no place."""
        damage = f": {self.damage}" if self.damage else ""
        return RepositoryBroken(f"a snapshot needs a blob that no index of the repository names{damage}")

    def need(self, place: Place) -> None:
        """Note that a chunk will be read, once more."""
        noted = self._noted
        for block, begin, end in parts_of(place):
            if known := noted.get(block):
                noted[block] = Needed(min(known.begin, begin), max(known.end, end), known.times + 1)
            else:
                noted[block] = Needed(begin, end, 1)
        if len(noted) >= _MOST_NOTED:
            self._keep_noted()

    def needed(self, block: Block) -> Needed:
        """Return what was noted of a block, from which a noted chunk is read."""
        self._keep_noted()
        query = "SELECT begin, end, times FROM needed WHERE pack = ? AND block = ?"
        return Needed(*self._database.execute(query, block).fetchone())

    def needed_packs(self) -> dict[int, int]:
        """Return how many bytes will be fetched from each pack, by its number."""
        self._keep_noted()
        query = "SELECT pack, total(end - begin) FROM needed GROUP BY pack"
        return {pack: int(size_bytes) for pack, size_bytes in self._database.execute(query)}

    def choose(self, keys: Iterable[bytes], packs: Iterable[int]) -> None:
        """Put those of the blobs that are in these packs into the list for `chosen`, each once."""
        self._database.executemany("INSERT OR IGNORE INTO sample VALUES (?)", ((pack,) for pack in packs))
        self._database.executemany(_CHOSEN, ((key,) for key in keys))

    def chosen(self) -> Iterator[Place]:
        """Yield the places of the blobs in the list in their order."""
        query = (
            "SELECT id, name, at, length, plain, pack FROM chosen"
            " CROSS JOIN packs ON packs.number = chosen.pack ORDER BY pack, at"
        )
        return map(Place._make, self._database.execute(query))

    def has_all(self, keys: Iterable[bytes]) -> bool:
        return all(self.place(key) is not None for key in keys)

    def _keep_noted(self) -> None:
        if self._noted:
            rows = ((*block, *needed) for block, needed in self._noted.items())
            self._database.executemany(_NOTED, rows)
            self._noted.clear()

    def close(self) -> None:
        self._database.close()


def parts_of(place: Place) -> list[tuple[Block, int, int]]:
    """Return the parts of a blob: each with its block, and with its begin and end there."""
    number, begin = divmod(place.offset, BLOCK_BYTES)
    end, parts = begin + place.length, list[tuple[Block, int, int]]()
    while end > BLOCK_BYTES:
        parts.append((Block(place.number, number), begin, BLOCK_BYTES))
        number, begin, end = number + 1, 0, end - BLOCK_BYTES
    parts.append((Block(place.number, number), begin, end))
    return parts


def packs_in(index: Iterable[bytes]) -> Iterator[tuple[str, list[Blob]]]:
    """Yield the packs that an index names, each with its blobs, or several times with some of them.

    Raises `RepositoryBroken`.
    """
    try:
        for pack in items_in_parts(index, "packs", "blobs", _PART_BLOBS):
            yield id_in(pack["id"]).hex(), [*map(_blob, pack["blobs"])]
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise RepositoryBroken("an index of the repository is damaged") from error


def _blob(value: dict[str, Any]) -> Blob:
    blob_id, kind = id_in(value["id"]), value["type"]
    if kind not in ("data", "tree"):
        raise ValueError(kind)
    offset, length, plain = value["offset"], value["length"], value.get("uncompressed_length") or 0
    for each in (offset, length, plain):
        if not isinstance(each, int) or not 0 <= each < _MOST_OFFSET:
            raise ValueError(each)
    if length < OVERHEAD_BYTES:
        raise ValueError(length)
    return Blob(blob_id, kind == "tree", offset, length, plain)
