"""Metadata of directories that waits until nothing more is written into them."""

import json
from collections.abc import Iterator
from typing import IO

from agent.restore.metadata import Meta
from agent.restore.plan import lines_backwards

Pending = tuple[str, Meta | None, bool]
"""Path, metadata (None: the archive has no entry for it), and whether it only leads to what is restored."""


class PendingDirectories:
    """Kept in a file, because an archive may have more directories than fit into memory."""

    def __init__(self, file: IO[bytes]) -> None:
        """`file` is empty, can seek, and stays the caller's to close. Every method raises OSError."""
        self._file = file

    def imply(self, path: str) -> None:
        """`path` had to be made for an entry below it; an entry of its own may follow."""
        self._write(path, None)

    def remember(self, path: str, meta: Meta, *, on_the_way: bool) -> None:
        """Keep the metadata of the archive's own entry for `path`."""
        self._write(path, meta, on_the_way)

    def finish(self) -> Iterator[Pending]:
        """First those that were implied, so that their own entry, if it came later, has the last word;
        then the others from the last to the first: a parent may end up closed to its own owner, and most
        often it comes before its children in an archive."""
        self._file.seek(0)
        yield from (pending for pending in map(_read, self._file) if pending[1] is None)
        yield from (pending for pending in map(_read, lines_backwards(self._file)) if pending[1] is not None)

    def _write(self, path: str, meta: Meta | None, on_the_way: bool = False) -> None:
        record = path, meta and meta.to_value(), on_the_way
        self._file.write(json.dumps(record).encode("ascii") + b"\n")


def _read(line: bytes) -> Pending:
    path, meta, on_the_way = json.loads(line)
    return path, meta and Meta.from_value(meta), on_the_way
