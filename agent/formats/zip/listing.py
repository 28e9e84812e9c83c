"""Finds the central directory of an archive and reads its records, a block at a time."""

import threading
from collections.abc import Callable, Iterator
from os import pread
from typing import BinaryIO

from agent.base.errors import ArchiveError
from agent.formats.zip import records
from agent.formats.zip.records import CentralHeader, End

_BLOCK_BYTES = 1 << 18
_MAX_COMMENT_BYTES = 65_535

ReadAt = Callable[[int, int], bytes]
"""(offset, size in bytes) -> the bytes there; fewer only at the end of the file. Raises OSError."""


def positional(file: BinaryIO) -> ReadAt:
    """Return a function that reads at an offset, for any number of threads."""
    try:
        fd = file.fileno()
    except OSError:  # io.UnsupportedOperation: a file in memory
        lock = threading.Lock()
    else:
        return lambda offset, size_bytes: pread(fd, size_bytes, offset)

    def read_at(offset: int, size_bytes: int) -> bytes:
        with lock:
            file.seek(offset)
            return file.read(size_bytes)

    return read_at


def find_end(read_at: ReadAt, file_bytes: int) -> End:
    """Return the place of the central directory.

    Raises ArchiveError when there is none or it contradicts itself, and for an archive that was cut off or
    continued: the end record must end where the file ends.
    """
    tail_offset = max(0, file_bytes - records.END_BYTES - _MAX_COMMENT_BYTES)
    tail = read_at(tail_offset, file_bytes - tail_offset)
    found = tail.rfind(records.END_MAGIC)
    while found >= 0:
        end = records.parse_end(tail[found:])
        # A comment may hold the signature too; after the real one the rest of the file is the comment.
        if end is not None and end.comment_bytes == len(tail) - found - records.END_BYTES:
            return _checked(read_at, end, tail_offset + found)
        found = tail.rfind(records.END_MAGIC, 0, found + len(records.END_MAGIC) - 1)
    raise ArchiveError("this is no ZIP archive, or one that was cut off: it has no end record")


def _checked(read_at: ReadAt, end: End, position: int) -> End:
    """Return `end`, or the Zip64 end record in its place, with the offset corrected in a moved archive."""
    if records.needs_zip64(end) and position >= records.LOCATOR_BYTES:
        offset = records.parse_locator(read_at(position - records.LOCATOR_BYTES, records.LOCATOR_BYTES))
        # Without a locator the values are meant: there are 65,535 entries.
        if offset is not None:
            end, position = _large(read_at, offset, position - records.LOCATOR_BYTES)
    if end.several_disks:
        raise ArchiveError("the archive is one part of several; only an archive in one file can be restored")
    if end.offset + end.size_bytes > position:
        raise ArchiveError("the archive is damaged or was cut off: its central directory does not fit")
    moved_by = position - end.offset - end.size_bytes
    if moved_by and read_at(end.offset + moved_by, len(records.CENTRAL_MAGIC)) == records.CENTRAL_MAGIC:
        return end._replace(offset=end.offset + moved_by, moved_by=moved_by)
    return end


def _large(read_at: ReadAt, offset: int, locator: int) -> tuple[End, int]:
    """Return the Zip64 end record and its place: in a moved archive, right before its locator."""
    for position in (offset, locator - records.END64_BYTES):
        if 0 <= position < locator and (end := records.parse_end64(read_at(position, records.END64_BYTES))):
            return end, position
    raise ArchiveError("the archive is damaged: its Zip64 end record is not where it should be")


def central_records(read_at: ReadAt, end: End) -> Iterator[tuple[CentralHeader, bytes, bytes]]:
    """Yield each record of the central directory with its name and extra fields. Raises ArchiveError."""
    window = _Window(read_at, end.offset, end.size_bytes)
    count = 0
    while window.left_bytes:
        central = records.parse_central(window.take(records.CENTRAL_BYTES))
        if central is None:
            raise ArchiveError("the archive is damaged: a record of its central directory is none")
        name_bytes, extra_bytes = central.name_bytes, central.extra_bytes
        rest = window.take(name_bytes + extra_bytes + central.comment_bytes)
        count += 1
        yield central, rest[:name_bytes], rest[name_bytes : name_bytes + extra_bytes]
    # Without Zip64 some writers keep the number modulo 65,536.
    if count & 0xFFFF != end.entries & 0xFFFF:
        raise ArchiveError(f"the archive is damaged: it announces {end.entries} entries and has {count}")


class _Window:
    """A part of the file, read from its beginning to its end."""

    def __init__(self, read_at: ReadAt, offset: int, size_bytes: int) -> None:
        self.left_bytes = size_bytes
        self._read_at, self._offset = read_at, offset
        self._block = b""
        self._used = 0

    def take(self, size_bytes: int) -> bytes:
        if size_bytes > self.left_bytes:
            raise ArchiveError("the archive is damaged: its central directory ends in the middle of a record")
        if self._used + size_bytes > len(self._block):
            self._fill()
        begin = self._used
        self._used += size_bytes
        self.left_bytes -= size_bytes
        return self._block[begin : self._used]

    def _fill(self) -> None:
        rest = self._block[self._used :]
        # What follows the fixed part of a record has at most 3 times 65,535 bytes: one block is enough.
        size_bytes = min(_BLOCK_BYTES, self.left_bytes - len(rest))
        more = self._read_at(self._offset, size_bytes)
        if len(more) < size_bytes:
            raise ArchiveError("the archive was cut off while it was being read")
        self._offset += len(more)
        self._block, self._used = rest + more, 0
