"""Files that programs change through a map of memory."""

import ctypes

_WRITE = 2  # SYNC_FILE_RANGE_WRITE of linux/fs.h
MOST_DIRTY_NS = 60_000_000_000
"""Longer than a page waits to be written, 35 s: `dirty_expire_centisecs` and `dirty_writeback_centisecs`."""
_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)
if _sync_file_range:
    _sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


def let_changes_show(fd: int) -> None:
    """Let the next change through a map of memory change the time stamps of a file.

    The kernel stamps the first change of a page, and no later one until the page is on its way to the disk.
    Call it before you read the content, for a file that has changed within `MOST_DIRTY_NS`. On tmpfs, which
    never writes, later changes of a page stay unseen.
    """
    if _sync_file_range:
        _sync_file_range(fd, 0, 0, _WRITE)  # begins to write what is dirty, and does not wait
