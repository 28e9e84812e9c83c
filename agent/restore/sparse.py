"""Writing a file with holes where it has long runs of zeros."""

import os

_SMALLEST_HOLE_BYTES = 4096  # the block of most file systems: less than that is never a hole


class SparseWriter:
    """Takes the contents of a new, empty file in order. A chunk of nothing but zeros is skipped over."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._size = 0
        self._hole_at_end = False

    def write(self, chunk: bytes) -> None:
        """Raises OSError."""
        self._size += len(chunk)
        # rstrip is nearly free on other data: it looks at the last byte.
        self._hole_at_end = len(chunk) >= _SMALLEST_HOLE_BYTES and not chunk.rstrip(b"\0")
        if self._hole_at_end:
            os.lseek(self._fd, len(chunk), os.SEEK_CUR)
            return
        written = os.write(self._fd, chunk)
        while written < len(chunk):
            written += os.write(self._fd, memoryview(chunk)[written:])

    def finish(self) -> None:
        """Give the file its length when it ends in a hole. Raises OSError."""
        if self._hole_at_end:
            os.ftruncate(self._fd, self._size)
