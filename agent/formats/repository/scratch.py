"""Temporary databases, for the parts of a job that may be too large for memory."""

import heapq
import math
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from secrets import token_hex

_CACHE_KIB = 1 << 10
_BLOCKS = "CREATE TABLE blocks (number INTEGER PRIMARY KEY, content BLOB)"
_BLOCK_NODES = 16
"""Nodes in a block. While a directory is read, memory has a block of all that was put in at once."""


def temporary_database(directory: Path, cache_kib: int, *tables: str) -> sqlite3.Connection:
    """Return a database in the directory, for any threads in turn. Raises sqlite3.Error and OSError.

    Its file has lost its name already, so it goes with the process at the latest. What a crash leaves in the
    moment before ends in `.part`, and the next start removes it.
    """
    path = directory / f"{token_hex(8)}.part"
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        path.unlink(missing_ok=True)
        for setting in (f"cache_size=-{cache_kib}", "journal_mode=OFF", "synchronous=OFF"):
            database.execute(f"PRAGMA {setting}")
        for table in tables:
            database.execute(table)
        database.execute("BEGIN")
    except BaseException:
        database.close()
        raise
    return database


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

    def add(self, directory: int, nodes: Iterable[tuple[bytes, bytes]]) -> None:
        """Put in nodes of a directory: names, each with its JSON. Neither has a byte 0."""
        ordered = sorted(nodes)
        run = range(self._end, self._end + math.ceil(len(ordered) / _BLOCK_NODES))
        self._opened().executemany(
            "INSERT INTO blocks VALUES (?, ?)", zip(run, _blocks(ordered), strict=True)
        )
        self._end = run.stop
        self._runs.setdefault(directory, []).append(run)

    def nodes(self, directory: int) -> Iterator[tuple[bytes, bytes]]:
        yield from heapq.merge(*map(self._nodes, self._runs.get(directory, ())))

    def remove(self, directory: int) -> None:
        for run in self._runs.pop(directory, ()):
            self._opened().execute(
                "DELETE FROM blocks WHERE number >= ? AND number < ?", (run.start, run.stop)
            )

    def close(self) -> None:
        if self._database:
            self._database.close()

    def _nodes(self, run: range) -> Iterator[tuple[bytes, bytes]]:
        query = "SELECT content FROM blocks WHERE number >= ? AND number < ? ORDER BY number"
        for (content,) in self._opened().execute(query, (run.start, run.stop)):
            parts = iter(content.split(b"\0"))
            yield from zip(parts, parts, strict=True)

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            self._database = temporary_database(self._directory, _CACHE_KIB, _BLOCKS)
        return self._database


def _blocks(nodes: Sequence[tuple[bytes, bytes]]) -> Iterator[bytes]:
    for begin in range(0, len(nodes), _BLOCK_NODES):
        yield b"\0".join(chain.from_iterable(nodes[begin : begin + _BLOCK_NODES]))
