"""An object of a provider as a file: only the blocks that are read are fetched."""

from collections import OrderedDict
from collections.abc import Callable

from agent.base.block_file import BlockFile
from providers.api import Piece
from providers.errors import Corrupted

BLOCK_BYTES = 1 << 18
_KEPT_BLOCKS = 4


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
