"""Early writing of a growing file to the disk, so that the `fsync` at its end is short."""

import os

CHUNK_BYTES = 128 << 10
"""The bytes that are moved at a time.

Small enough for the C library to use a buffer again. It takes a larger one (by default from 128 KiB with a
header) from the kernel each time, and the kernel clears every page of it.
"""
_SLICE_BYTES = 8 << 20


class WriteBack:
    """Writes a growing file to the disk slice by slice.

    The kernel by itself waits for seconds, or for the `fsync` at the end, which then takes as long as all
    the writing. The file is durable only after that `fsync`.
    """

    def __init__(self, file: int, begin: int = 0) -> None:
        self._file, self._begun = file, begin

    def reached(self, end: int) -> None:
        """Take note that the file has grown to `end`. Raises OSError."""
        if end - self._begun >= _SLICE_BYTES:
            # Linux then starts to write dirty pages without waiting, and drops pages that are on the disk.
            os.posix_fadvise(self._file, self._begun, end - self._begun, os.POSIX_FADV_DONTNEED)
            self._begun = end
