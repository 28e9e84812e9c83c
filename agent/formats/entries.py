"""The entries of a tree: as the walk gives them to a format, and as a format gives them back."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

MAX_NAME_BYTES = 0x7000
"""The longest name that is archived: a record of ZIP has room for it twice (a hard link)."""
MAX_ATTRIBUTES_BYTES = 65_535 - 200
"""The most bytes of extended attributes and names of an entry: APPNOTE 4.4.10, less the other fields."""
TICK_NS = 20_000_000
"""Longer than the kernel's clock stands still (10 ms at 100 Hz), and than exFAT's steps (10 ms)."""
COARSE_TICK_NS = 2_000_000_000
"""VFAT's steps. ext3, ext4 with small inodes and some file servers keep whole seconds."""
_SECOND_NS = 1_000_000_000
_NO_CLOCK_NS = 347_155_200 * _SECOND_NS
"""1981. A device without a clock begins each boot in 1970, and VFAT writes 1980 for that."""


class EntryKind(Enum):
    """The kind of an entry. No other kinds are archived or restored."""

    FILE = "file"
    DIR = "directory"
    LINK = "link"


FILE, DIR, LINK = EntryKind
"""Module constants for loops over many files: in Python 3.11, `EntryKind.FILE` runs Python code."""


@dataclass(slots=True)
class Entry:
    """A file, directory or link that goes into the archive. The walk closes `fd` when it goes on."""

    name: str
    """Relative to the root, separated by slashes, `os.fsdecode`d; no slash at the end."""
    kind: EntryKind
    stat: os.stat_result
    fd: int = -1
    """Open for reading for a file or directory, -1 for a link. Owned by the walk."""
    target: bytes = b""
    """The target of a link, as it is on the disk."""
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    hard_link_to: str | None = None
    """The name of an earlier entry of the file with several names."""
    seen_ns: int = field(default_factory=time.time_ns)
    """The time when the walk opened it: what is read from it is not older."""

    def has_changed(self, size_bytes: int) -> bool:
        """Return True when the file has changed since the walk opened it; `size_bytes` were read."""
        try:
            after = os.fstat(self.fd)
        except OSError:
            return True  # ESTALE: the file server has replaced it
        return after.st_mtime_ns != self.stat.st_mtime_ns or after.st_size != size_bytes


def may_change_unseen(mtime_ns: int, ctime_ns: int, seen_ns: int) -> bool:
    """Return True for time stamps that a later change may leave as they are.

    They are so young at `seen_ns`, a time before the content was read, or of a time that comes again.
    """
    newest_ns, tick_ns = ctime_ns, TICK_NS
    if not (mtime_ns % _SECOND_NS or ctime_ns % _SECOND_NS):
        newest_ns, tick_ns = max(mtime_ns, ctime_ns), COARSE_TICK_NS
    return seen_ns - newest_ns < tick_ns or newest_ns < _NO_CLOCK_NS


def read_whole(fd: int, size_bytes: int) -> bytes:
    """Return `size_bytes`, fewer at the end of the file. Raises OSError."""
    data = os.read(fd, size_bytes)
    while len(data) < size_bytes and (more := os.read(fd, size_bytes - len(data))):
        data += more
    return data


class Item(NamedTuple):
    """One entry of an archive, its name checked. A field is None when the archive does not say.

    A tuple, because a frozen dataclass takes five times as long to make.
    """

    name: str
    """Safe: relative, separated by slashes, without `.` and `..`, `os.fsdecode`d, no slash at the end."""
    kind: EntryKind
    mode: int | None
    """Permission bits as archived, with set-uid, set-gid and sticky."""
    mtime_ns: int | None
    uid: int | None
    gid: int | None
    size: int
    """Bytes of content; for a link, of its target."""
    packed_size: int
    """Bytes that the content takes in the archive."""
    xattrs: Mapping[str, bytes]
    hard_link_to: str | None
    """An earlier entry of the file with several names. This entry has the content, too."""
    location: Any
    """The place of the content, for the format alone."""
    on_the_way: bool = False
    """True for a directory that only leads to the restored ones: its metadata counts when it is made."""
