"""Reads large JSON piece by piece, within bounds for the memory that one value may take."""

from collections.abc import Iterator
from typing import Any

from agent.base.errors import RepositoryBroken

_MOST_BYTES = 32 << 20
"""The longest value: a file of 32 GiB in chunks of 64 KiB."""
_MOST_OPENED = 500_000
"""The most objects and lists in a value, each of which takes some hundred bytes of memory. A pack of many
small blobs has a hundred thousand."""


def items_of(pieces: Iterator[bytes], path: str) -> Iterator[Any]:
    """Yield the values at a path, as `ijson` writes paths. Raises `RepositoryBroken` for no JSON.

    Also raises what `pieces` raises. Values are objects, texts, numbers, and no fractions.
    """
    import ijson

    file = _File(pieces)
    try:
        for value in ijson.items(file, path):
            yield value
            file.value_begins()
    except (ijson.JSONError, UnicodeDecodeError, OverflowError) as error:
        raise RepositoryBroken("a file of the repository is no JSON") from error


class _File:
    """Pieces as a file for the parser, which counts what belongs to one value."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._held = pieces, memoryview(b"")
        self.value_begins()

    def value_begins(self) -> None:
        self._bytes = self._opened = 0

    def read(self, size_bytes: int) -> bytes:
        if not self._held:
            self._held = memoryview(next(self._pieces, b""))
        found, self._held = bytes(self._held[:size_bytes]), self._held[size_bytes:]
        self._bytes += len(found)
        self._opened += found.count(b"[") + found.count(b"{")
        if self._bytes > _MOST_BYTES or self._opened > _MOST_OPENED:
            raise RepositoryBroken("an entry in a file of the repository is larger than any that is read")
        return found
