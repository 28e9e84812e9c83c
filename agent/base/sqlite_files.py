"""The files of an SQLite database. Source: sqlite.org, "Database File Format", 1.3, and "Temporary Files"."""

import os

MAGIC = b"SQLite format 3\0"
HEADER_BYTES = 100
SMALLEST_PAGE_BYTES = 512
_BESIDE = ("-wal", "-shm", "-journal")


def is_database(fd: int, size_bytes: int) -> bool:
    """Return True for an open file that begins as a database does.

    Most other files are not read for that: a database is a row of pages, each of a multiple of 512 bytes.
    """
    if not size_bytes or size_bytes % SMALLEST_PAGE_BYTES:
        return False
    try:
        header = os.pread(fd, HEADER_BYTES, 0)
    except OSError:
        return False
    return len(header) == HEADER_BYTES and header.startswith(MAGIC)


def database_of(name: str) -> str:
    """Return the name of the database that a file of this name belongs to; "" for any other name."""
    return next((name.removesuffix(end) for end in _BESIDE if name.endswith(end)), "")
