"""An object at a place as a file: only what is read of it is fetched."""

import io
from collections import OrderedDict
from collections.abc import Callable

from providers.api import Piece
from providers.errors import Corrupted

BLOCK_BYTES = 1 << 18
_KEPT_BLOCKS = 4


class RangedFile(io.RawIOBase):
    """Reads block by block, and keeps the last few. Used by one thread."""

    def __init__(self, read_range: Callable[[int, int], Piece]) -> None:
        """`read_range` returns `size_bytes` bytes of the object from `offset` on, as that of `Storage` does.

        Here and when something is read, raises what it raises, and `Corrupted` when the object is
        replaced meanwhile.
        """
        self._read_range = read_range
        first = read_range(0, BLOCK_BYTES)
        self.size_bytes, self._etag = first.size_bytes, first.etag
        self.blocks = OrderedDict({0: first.data})
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size_bytes}[whence]
        if base + offset < 0:
            raise ValueError("a position before the beginning")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1, /) -> bytes:
        """As much as is asked for, less only at the end."""
        left = max(0, self.size_bytes - self._position)
        wanted = left if size < 0 else min(size, left)
        parts: list[bytes] = []
        while wanted:
            number, offset = divmod(self._position, BLOCK_BYTES)
            part = self._block(number)[offset : offset + wanted]
            parts.append(part)
            self._position += len(part)
            wanted -= len(part)
        return b"".join(parts)

    def _block(self, number: int) -> bytes:
        if number in self.blocks:
            self.blocks.move_to_end(number)
            return self.blocks[number]
        begin = number * BLOCK_BYTES
        expected = min(BLOCK_BYTES, self.size_bytes - begin)
        piece = self._read_range(begin, expected)
        if (piece.size_bytes, piece.etag, len(piece.data)) != (self.size_bytes, self._etag, expected):
            raise Corrupted("the archive was replaced while it was being read")
        self.blocks[number] = piece.data
        if len(self.blocks) > _KEPT_BLOCKS:
            self.blocks.popitem(last=False)
        return piece.data
