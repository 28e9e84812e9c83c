"""Checks of free space, beside a reserve that stays free (`storage.reserve`).

The reserve is for the journal, the logs and the device's other programs: a device with a full disk often does
not even start. It takes at most a quarter of a file system: a partition for configuration may be smaller than
the whole reserve.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_LOOK_EVERY_BYTES = 8 << 20
_LARGEST_SHARE = 4
BLOCK_BYTES = 4096
"""The unit in which most file systems give space to a file."""


@dataclass(frozen=True, slots=True)
class Reserve:
    """The bytes that stay free on the file system of `directory`."""

    directory: Path
    size_bytes: int

    def on(self, file: int) -> int:
        """Return the bytes that stay free on the file system of `file`: 0 on another one. Raises OSError."""
        return self.size_bytes if os.fstat(file).st_dev == os.stat(self.directory).st_dev else 0


def reserved_bytes(disk: os.statvfs_result, reserve_bytes: int) -> int:
    """Return how much of the reserve this file system keeps."""
    return min(reserve_bytes, disk.f_blocks * disk.f_frsize // _LARGEST_SHARE)


class Room:
    """The room that is left on one file system. Used by one thread."""

    def __init__(
        self, within: int | Path, name: str, reserve_bytes: int, full: Callable[[str], Exception]
    ) -> None:
        """`within` is a file on it, `name` its name in messages; `full` makes an error of a message."""
        self._within, self._name, self._reserve_bytes, self._full = within, name, reserve_bytes, full
        self._granted_bytes = 0

    def check(self, needed_bytes: int = 0, needed_files: int = 0) -> int:
        """Raise `full` when this does not fit beside the reserve; return what is free beside it.

        Raises OSError. A file system that does not tell (a tmpfs without limit, some network ones) is
        taken to have room.
        """
        disk = os.statvfs(self._within)
        if disk.f_files and needed_files > disk.f_favail:
            raise self._full(
                f"{self._name} has room for {disk.f_favail} more files where {needed_files} are needed: "
                "remove some"
            )
        if not disk.f_blocks:
            return needed_bytes + _LOOK_EVERY_BYTES
        free_bytes = disk.f_bavail * disk.f_frsize
        reserve_bytes = reserved_bytes(disk, self._reserve_bytes)
        if needed_bytes + reserve_bytes > free_bytes:
            reserve = f" beside the reserve of {reserve_bytes} (storage.reserve)" if reserve_bytes else ""
            raise self._full(
                f"{self._name} has {free_bytes} bytes left where {needed_bytes} are needed{reserve}: "
                "make room"
            )
        return free_bytes - reserve_bytes

    def take(self, size_bytes: int) -> None:
        """Announce a write of this size. Raises as `check`.

        Looks at the disk every 8 MiB, and more often as it fills up: other programs write to it, too.
        """
        if size_bytes > self._granted_bytes:
            self._granted_bytes = min(self.check(size_bytes) // 2, _LOOK_EVERY_BYTES)
        self._granted_bytes -= size_bytes
