"""The nodes of directories that are too large for memory, sorted on the disk."""

import heapq
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from agent.formats.repository.databases import temporary_database

_CACHE_KIB = 1 << 10
_BLOCKS = "CREATE TABLE blocks (number INTEGER PRIMARY KEY, content BLOB)"
_BLOCK_BYTES = 4 << 10
"""The usual size of a block. Memory has one of each time that something was put in, while that is read."""


class Scratch:
    """Sorts the nodes of directories by name. Used by one thread.

    What is put in at once is sorted in memory, and written at the end of the file; reading merges it. A table
    in the order of names would be written all over for each node, once it is larger than its cache.

    Methods raise sqlite3.Error, and OSError when they are the first.
    """

    def __init__(self, directory: Path) -> None:
        """Take the directory for the file, which is made when something is put in."""
        self._directory = directory
        self._database: sqlite3.Connection | None = None
        self._runs: dict[int, list[range]] = {}
        """The blocks with sorted nodes, by directory."""
        self._end = 0

    def add(self, directory: int, parts: Iterable[tuple[bytes, bytes]]) -> None:
        """Put in nodes of a directory by name: the name with each part of its JSON. Neither has a byte 0."""
        blocks = enumerate(_blocks(parts), self._end)
        added = self._opened().executemany("INSERT INTO blocks VALUES (?, ?)", blocks).rowcount
        run = range(self._end, self._end + added)
        self._end = run.stop
        self._runs.setdefault(directory, []).append(run)

    def nodes(self, directory: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield the parts of the nodes of a directory, sorted by name."""
        yield from heapq.merge(*map(self._parts, self._runs.get(directory, ())))

    def remove(self, directory: int) -> None:
        for run in self._runs.pop(directory, ()):
            self._opened().execute(
                "DELETE FROM blocks WHERE number >= ? AND number < ?", (run.start, run.stop)
            )

    def close(self) -> None:
        if self._database:
            self._database.close()

    def _parts(self, run: range) -> Iterator[tuple[bytes, bytes]]:
        query = "SELECT content FROM blocks WHERE number >= ? AND number < ? ORDER BY number"
        for (content,) in self._opened().execute(query, (run.start, run.stop)):
            both = iter(content.split(b"\0"))
            yield from zip(both, both, strict=True)

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            self._database = temporary_database(self._directory, _CACHE_KIB, _BLOCKS)
        return self._database


def _blocks(parts: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    block, size_bytes = list[bytes](), 0
    for part in parts:
        block += part
        size_bytes += len(part[1])
        if size_bytes >= _BLOCK_BYTES:
            yield b"\0".join(block)
            block, size_bytes = [], 0
    if block:
        yield b"\0".join(block)
