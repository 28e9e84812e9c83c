"""Settings of the C library's allocator for a small service on a small device.

glibc gives each thread an arena of its own and, once a large block was freed, keeps blocks of that size
on the heap. A backup uses large blocks in several threads: without these settings their memory stays taken.
"""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_LARGE_BYTES = 512 << 10  # a compressed block of an archive is smaller, and comes by the hundred a second
_KEPT_BYTES = 4 << 20  # of the heap's free end: new pages again and again took a third of a verification


def keep_small() -> None:
    """Use one arena, and give large blocks back when they are freed. Call it before threads start."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # musl has neither the call nor the need
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
