"""Writing a file with holes where it has long runs of zeros."""

import os
from collections.abc import Callable

_SMALLEST_HOLE_BYTES = 4096  # the block of most file systems: less than that is never a hole


def is_hole(chunk: bytes) -> bool:
    """Return True for a chunk of zeros that is long enough for a hole."""
    # rstrip is nearly free on other data: it looks at the last byte.
    return len(chunk) >= _SMALLEST_HOLE_BYTES and not chunk.rstrip(b"\0")


class SparseWriter:
    """Takes the contents of a new, empty file in order. A chunk of nothing but zeros is skipped over."""

    def __init__(self, fd: int, take: Callable[[int], None]) -> None:
        """`take` is told how many bytes are about to be written; it may raise."""
        self._fd, self._take = fd, take
        self._size = 0
        self._hole_at_end = False

    def write(self, chunk: bytes) -> None:
        """Raises OSError, and what `take` does."""
        self._size += len(chunk)
        self._hole_at_end = is_hole(chunk)
        if self._hole_at_end:
            os.lseek(self._fd, len(chunk), os.SEEK_CUR)
            return
        self._take(len(chunk))
        written = os.write(self._fd, chunk)
        while written < len(chunk):
            written += os.write(self._fd, memoryview(chunk)[written:])

    def finish(self) -> None:
        """Give the file its length when it ends in a hole. Raises OSError."""
        if self._hole_at_end:
            os.ftruncate(self._fd, self._size)
