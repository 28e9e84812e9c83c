"""Work on the disk besides metadata: syncing, moving, removing."""

import ctypes
import errno
import os
import stat
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from agent.restore.directories import DirectoryEntry, mark, names_in, open_directory
from agent.restore.metadata import set_mode

NO_HARD_LINK = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
"""Answers of link(2) on VFAT, for somebody else's file (fs.protected_hardlinks), or at its limit."""

_PROBED, _SLOW_S, _REMOVERS = 256, 0.0002, 8
"""Files that are unlinked one by one; the time of each from which threads do the rest; how many."""

_libc = ctypes.CDLL(None, use_errno=True)


def syncs_tell_errors() -> bool:
    """Return True when syncfs(2) reports a failed write: since Linux 5.8. Before, each file needs fsync."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int("".join(c for c in minor if c.isdigit()))) >= (5, 8)


def sync_file_system(fd: int) -> None:
    """Write everything of the file system that `fd` is on to the disk; raises OSError.

    One call for a whole tree is many times faster than an fsync for each file and directory.
    """
    if not hasattr(_libc, "syncfs"):
        os.sync()
    elif _libc.syncfs(fd) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def by_descriptor(fd: int) -> str:
    """A path that means what `fd` marks, for calls that refuse an O_PATH descriptor (proc(5))."""
    return f"/proc/self/fd/{fd}"


def open_up(destination: DirectoryEntry) -> int | None:
    """Let the owner read, write and enter a directory; its mode before, None when it is no directory.

    Raises OSError when nothing is there. Somebody else's directory stays as it is.
    """
    fd = mark(destination)
    try:
        status = os.fstat(fd)
        if not stat.S_ISDIR(status.st_mode):
            return None
        mode = stat.S_IMODE(status.st_mode)
        if is_closed(mode):
            set_mode(by_descriptor(fd), mode | stat.S_IRWXU)
        return mode
    finally:
        os.close(fd)


def close_down(destination: DirectoryEntry, mode: int) -> None:
    """Give a directory this mode, never through a link; raises OSError when nothing is there."""
    fd = mark(destination)
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            set_mode(by_descriptor(fd), mode)
    finally:
        os.close(fd)


def is_closed(mode: int) -> bool:
    """Return True when a directory's mode keeps its own owner from listing, entering or changing it."""
    return mode & stat.S_IRWXU != stat.S_IRWXU


def move(source: DirectoryEntry, target: DirectoryEntry) -> None:
    """Rename within a file system; what is at `target` is replaced as by rename(2). Raises OSError.

    Linux renames a directory to another parent only for those who may write into it: a read-only one
    is opened up first and closed again after.
    """
    try:
        _rename(source, target)
    except PermissionError:
        mode = open_up(source)
        if mode is None or not is_closed(mode):
            raise
        _rename(source, target)
        close_down(target, mode)


def _rename(source: DirectoryEntry, target: DirectoryEntry) -> None:
    os.rename(source[1], target[1], src_dir_fd=source[0], dst_dir_fd=target[0])


def exists(destination: DirectoryEntry) -> bool:
    """Return True when anything is there, a dangling link too. Raises OSError when that cannot be seen."""
    try:
        os.stat(destination[1], dir_fd=destination[0], follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def empty(dir_fd: int, *keep: str) -> None:
    """Remove everything in the directory `dir_fd`, except its entries `keep`; raises OSError.

    A directory is moved up to `dir_fd` before it is emptied. So any depth takes two descriptors and no
    recursion, nobody outside reaches what is being emptied, and what is mounted somewhere below is safe:
    the kernel refuses to move a mount point (EBUSY).
    """
    while names := [name for name in names_in(dir_fd) if name not in keep]:
        for name in _directories_left(dir_fd, names):
            _dissolve((dir_fd, name))


def _directories_left(dir_fd: int, names: Sequence[str]) -> list[str]:
    """Unlink all that are no directories; return those that are. Raises OSError.

    Where unlinking has to wait (a disk that is mounted with `discard`), several threads wait at once: the
    kernel gives back a file's blocks after it has let go of the directory.
    """
    began_s = time.monotonic()
    first, rest = names[:_PROBED], names[_PROBED:]
    left = _unlink_each(dir_fd, first)
    if not rest or time.monotonic() - began_s < _SLOW_S * len(first):
        return left + _unlink_each(dir_fd, rest)
    with ThreadPoolExecutor(_REMOVERS, thread_name_prefix="remove") as pool:
        shares = [rest[number::_REMOVERS] for number in range(_REMOVERS)]
        return left + [name for some in pool.map(partial(_unlink_each, dir_fd), shares) for name in some]


def _unlink_each(dir_fd: int, names: Sequence[str]) -> list[str]:
    return [name for name in names if not _unlinked((dir_fd, name))]


def _unlinked(destination: DirectoryEntry) -> bool:
    try:
        os.unlink(destination[1], dir_fd=destination[0])
    except IsADirectoryError:
        return False
    return True


def _dissolve(destination: DirectoryEntry) -> None:
    pool_fd, name = destination
    open_up(destination)
    fd = open_directory(name, pool_fd)
    try:
        # In order of their names, most often that of their making: a third faster on ext4.
        for child in _directories_left(fd, sorted(names_in(fd))):
            status = os.stat(child, dir_fd=fd, follow_symlinks=False)
            open_up((fd, child))
            # No other directory in the pool has this inode number, so the name is free.
            _rename((fd, child), (pool_fd, f"inode-{status.st_ino}"))
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=pool_fd)
