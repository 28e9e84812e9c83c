"""A file that is read in blocks of one size, wherever the blocks come from."""

import io
from abc import abstractmethod


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
