"""Files that are written at the speed of the disk, and are on it soon after their last byte."""

import os

CHUNK_BYTES = 128 << 10
"""The bytes that are moved at a time.

Below the size from which the C library takes every buffer anew from the kernel and gives it back
(128 KiB and a header by default, more in the agent): the kernel would clear each page of each chunk.
"""
_SLICE_BYTES = 8 << 20


class WriteBack:
    """Has a growing file written to the disk slice by slice, while the next slice is being made.

    The kernel by itself waits for seconds, or for the `fsync` at the end, which then takes as long as all
    of the writing. Durable is the file only after that `fsync` all the same.
    """

    def __init__(self, file: int, begin: int = 0) -> None:
        self._file, self._begun = file, begin

    def reached(self, end: int) -> None:
        """The file is filled up to `end`. Raises OSError."""
        if end - self._begun >= _SLICE_BYTES:
            # Linux answers this by starting to write what is dirty, without waiting for it; only pages
            # that are on the disk already are dropped.
            os.posix_fadvise(self._file, self._begun, end - self._begun, os.POSIX_FADV_DONTNEED)
            self._begun = end
