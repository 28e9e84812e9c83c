"""Work on the disk besides metadata: syncing, moving, removing."""

import ctypes
import errno
import os
import stat
import time
from collections.abc import Callable, Sequence
from functools import partial

from agent.base.durable import closing_fd
from agent.restore.directories import DirectoryEntry, mark, names_in, open_directory
from agent.restore.metadata import set_mode

_NO_HARD_LINK = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
"""Answers of link(2) on VFAT, for somebody else's file (fs.protected_hardlinks), or at its limit."""

_PROBED, _SLOW_S, _REMOVERS = 256, 0.0002, 8
"""Files that are unlinked first; the time for each from which threads do the rest; how many threads."""

_libc = ctypes.CDLL(None, use_errno=True)


def syncs_tell_errors() -> bool:
    """Return True when syncfs(2) reports failed writes, since Linux 5.8. Before, each file needs fsync."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int("".join(c for c in minor if c.isdigit()))) >= (5, 8)


def sync_file_system(fd: int) -> None:
    """Write the whole file system of `fd` to the disk. Raises OSError.

    For a tree this is many times faster than an fsync for each file and directory.
    """
    if not hasattr(_libc, "syncfs"):
        os.sync()
    elif _libc.syncfs(fd) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def by_descriptor(fd: int) -> str:
    """Return a path of an O_PATH descriptor, for calls that refuse the descriptor itself (proc(5))."""
    return f"/proc/self/fd/{fd}"


def open_up(destination: DirectoryEntry) -> int | None:
    """Let the owner read, write and enter a directory; return its mode before, None for no directory.

    Raises OSError when nothing is there. Another user's directory stays as it is.
    """
    with closing_fd(mark(destination)) as fd:
        status = os.fstat(fd)
        if not stat.S_ISDIR(status.st_mode):
            return None
        mode = stat.S_IMODE(status.st_mode)
        if is_closed(mode):
            set_mode(by_descriptor(fd), mode | stat.S_IRWXU)
        return mode


def close_down(destination: DirectoryEntry, mode: int) -> None:
    """Give a directory this mode, following no link. Raises OSError when nothing is there."""
    with closing_fd(mark(destination)) as fd:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            set_mode(by_descriptor(fd), mode)


def is_closed(mode: int) -> bool:
    """Return True when a directory's mode keeps its own owner from listing, entering or changing it."""
    return mode & stat.S_IRWXU != stat.S_IRWXU


def move(source: DirectoryEntry, target: DirectoryEntry) -> None:
    """Rename as by rename(2). Raises OSError.

    To move a directory to another parent, Linux wants it to be writable: a read-only one is opened up
    meanwhile.
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


def link(source: DirectoryEntry, target: DirectoryEntry) -> bool:
    """Make another name of a file as by link(2); return False where that is impossible. Raises OSError."""
    try:
        os.link(source[1], target[1], src_dir_fd=source[0], dst_dir_fd=target[0], follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_HARD_LINK:
            raise
        return False
    return True


def exists(destination: DirectoryEntry) -> bool:
    """Return True when an entry is there, also a dangling link. Raises OSError when that cannot be seen."""
    try:
        os.stat(destination[1], dir_fd=destination[0], follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def empty(dir_fd: int, *keep: str, check: Callable[[], None] = lambda: None) -> None:
    """Remove everything in the directory `dir_fd` except its entries `keep`. Raises OSError.

    `check` is called for each name, and ends the removal by raising.

    Each directory is moved up to `dir_fd` before it is emptied. So any depth takes two descriptors and no
    recursion, no other process reaches it, and a mounted file system is safe: the kernel refuses to move a
    mount point (EBUSY).
    """
    while names := [name for name in names_in(dir_fd) if name not in keep]:
        for name in _directories_left(dir_fd, names, check):
            _dissolve((dir_fd, name), check)


def _directories_left(dir_fd: int, names: Sequence[str], check: Callable[[], None]) -> list[str]:
    """Unlink all names but directories; return these. Raises OSError.

    Where unlinking is slow (a disk that is mounted with `discard`), several threads wait at once: the kernel
    frees a file's blocks after it has unlocked the directory.
    """
    began_s = time.monotonic()
    first, rest = names[:_PROBED], names[_PROBED:]
    left = _unlink_each(dir_fd, check, first)
    if not rest or time.monotonic() - began_s < _SLOW_S * len(first):
        return left + _unlink_each(dir_fd, check, rest)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_REMOVERS, thread_name_prefix="remove") as pool:
        shares = [rest[number::_REMOVERS] for number in range(_REMOVERS)]
        for some in pool.map(partial(_unlink_each, dir_fd, check), shares):
            left += some
    return left


def _unlink_each(dir_fd: int, check: Callable[[], None], names: Sequence[str]) -> list[str]:
    left = []
    for name in names:
        check()
        if not _unlinked((dir_fd, name)):
            left.append(name)
    return left


def _unlinked(destination: DirectoryEntry) -> bool:
    try:
        os.unlink(destination[1], dir_fd=destination[0])
    except IsADirectoryError:
        return False
    return True


def _dissolve(destination: DirectoryEntry, check: Callable[[], None]) -> None:
    pool_fd, name = destination
    open_up(destination)
    with closing_fd(open_directory(name, pool_fd)) as fd:
        # The order of names is most often the order of making: a third faster on ext4.
        for child in _directories_left(fd, sorted(names_in(fd)), check):
            status = os.stat(child, dir_fd=fd, follow_symlinks=False)
            open_up((fd, child))
            # No other directory in the pool has this inode number, so the name is free.
            _rename((fd, child), (pool_fd, f"inode-{status.st_ino}"))
    os.rmdir(name, dir_fd=pool_fd)
