"""The entries of a snapshot in a temporary file, in the order in which their contents lie in packs."""

import json
import os
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import finalize

from agent.base.errors import RepositoryBroken
from agent.formats.entries import DIR, FILE, LINK, Item
from agent.formats.repository.databases import temporary_database

_CACHE_KIB = 1 << 10
_MOST_BYTES = 1 << 30
_PAGE = 500
_KINDS = (FILE, DIR, LINK)
_ROWS_BEHIND = "SELECT * FROM items WHERE (pack, at, number) > (?, ?, ?) ORDER BY pack, at, number LIMIT ?"
_CONTENTS_BEHIND = (
    "SELECT pack, at, number, location FROM items"
    " WHERE (pack, at, number) > (?, ?, ?) ORDER BY pack, at, number LIMIT ?"
)
_BEFORE_ALL, _BEFORE_FILES = (-2, 0, 0), (-1, 1, 0)
"""Keys in the order of the entries: directories and links have -1, 0 and a number."""
_ITEMS = """
CREATE TABLE items (
    pack INTEGER, at INTEGER, number INTEGER, name BLOB, kind INTEGER, mode INTEGER, mtime INTEGER,
    uid INTEGER, gid INTEGER, size INTEGER, packed INTEGER, xattrs TEXT, link BLOB, location BLOB,
    PRIMARY KEY (pack, at, number)) WITHOUT ROWID
"""
_LINKS = "CREATE TABLE links (file BLOB PRIMARY KEY, name BLOB) WITHOUT ROWID"
_ROW = "INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Listing:
    """Directories and links come first, as they were added; then files by the place of their first chunk.

    `add` belongs to one thread; afterwards any number of threads may call `items`. Methods raise
    sqlite3.Error.
    """

    def __init__(self, directory: Path) -> None:
        """Make the file in the directory; raises OSError, too."""
        self._database = temporary_database(directory, _CACHE_KIB, _ITEMS, _LINKS)
        finalize(self, self._database.close)
        self._alone, self._number, self._bytes = Lock(), 0, 0

    def add(self, item: Item, pack: int, offset: int) -> None:
        """Add an entry; its first chunk is at `offset` in a pack. Raises `RepositoryBroken` for too many."""
        self._number += 1
        place = (pack, offset) if item.kind is FILE else (-1, 0)
        name, link = os.fsencode(item.name), item.hard_link_to and os.fsencode(item.hard_link_to)
        facts = item.mode, item.mtime_ns, item.uid, item.gid, item.size, item.packed_size
        xattrs, content = _text(item.xattrs), item.location
        row = (*place, self._number, name, _KINDS.index(item.kind), *facts, xattrs, link, content)
        self._bytes += 100 + len(name) + len(content) + len(link or b"") + len(xattrs or "")
        if self._bytes > _MOST_BYTES:
            raise RepositoryBroken("the list of the snapshot's entries is larger than 1 GiB")
        self._database.execute(_ROW, row)

    def first_name(self, device: int, inode: int, content: bytes, name: str) -> str | None:
        """Return the earlier name of a file with several names; None for the first one."""
        file = sha256(b"%d %d " % (device, inode) + content).digest()
        raw = os.fsencode(name)
        if self._database.execute("INSERT OR IGNORE INTO links VALUES (?, ?)", (file, raw)).rowcount:
            return None
        (found,) = self._database.execute("SELECT name FROM links WHERE file = ?", (file,)).fetchone()
        return os.fsdecode(found)

    def items(self) -> Iterator[Item]:
        """Yield all entries."""
        return map(_item, self._rows(_ROWS_BEHIND, _BEFORE_ALL))

    def contents(self) -> Iterator[bytes]:
        """Yield the ids of the chunks of each file, one after the other."""
        return (row[-1] for row in self._rows(_CONTENTS_BEHIND, _BEFORE_FILES))

    def _rows(self, query: str, key: tuple[int, int, int]) -> Iterator[tuple[Any, ...]]:
        """Yield the rows behind a key, page by page; the query's first columns are the key."""
        while rows := self._page(query, key):
            yield from rows
            key = rows[-1][:3]

    def _page(self, query: str, key: tuple[int, int, int]) -> list[tuple[Any, ...]]:
        with self._alone:
            return self._database.execute(query, (*key, _PAGE)).fetchall()

    def close(self) -> None:
        self._database.close()


def _text(xattrs: Mapping[str, bytes]) -> str | None:
    return json.dumps({name: value.hex() for name, value in xattrs.items()}) if xattrs else None


def _item(row: tuple[Any, ...]) -> Item:
    _, _, _, name, kind, mode, mtime_ns, uid, gid, size, packed, xattrs, link, location = row
    return Item(
        os.fsdecode(name), _KINDS[kind], mode, mtime_ns, uid, gid, size, packed, _xattrs(xattrs),
        link and os.fsdecode(link), location,
    )  # fmt: skip


def _xattrs(text: str | None) -> dict[str, bytes]:
    return {name: bytes.fromhex(value) for name, value in json.loads(text).items()} if text else {}
