"""Files that are read in blocks; of an object, only the blocks that are read are fetched."""

import io
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable

from providers.api import Piece
from providers.errors import Corrupted

BLOCK_BYTES = 1 << 18
_KEPT_BLOCKS = 4


class BlockFile(io.RawIOBase):
    """A file of `size_bytes` for one thread. A subclass supplies the blocks."""

    def __init__(self, block_bytes: int, size_bytes: int) -> None:
        self._block_bytes, self.size_bytes = block_bytes, size_bytes
        self._position = 0

    @abstractmethod
    def _block(self, number: int) -> bytes:
        """Return the block with this number, counted from 0; the last one may be shorter."""

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
        """Return `size` bytes, less only at the end of the file. Raises what `_block` raises."""
        left = max(0, self.size_bytes - self._position)
        wanted = left if size < 0 else min(size, left)
        parts = []
        while wanted:
            number, offset = divmod(self._position, self._block_bytes)
            part = self._block(number)[offset : offset + wanted]
            parts.append(part)
            self._position += len(part)
            wanted -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


class RangedFile(BlockFile):
    """An object that is read block by block; the last few blocks are kept."""

    def __init__(self, read_range: Callable[[int, int], Piece]) -> None:
        """`read_range` takes offset and size, as `Storage.read_range` does.

        This and `read` raise what it raises, and `Corrupted` when the object is replaced meanwhile.
        """
        self._read_range = read_range
        first = read_range(0, BLOCK_BYTES)
        super().__init__(BLOCK_BYTES, first.size_bytes)
        self._etag = first.etag
        self.blocks = OrderedDict({0: first.data})

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
