"""Owner, mode, time and extended attributes of what is restored."""

import errno
import os
import re
import stat
from collections.abc import Mapping
from typing import NamedTuple

_SPECIAL = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX
_UNABLE = {errno.EPERM, errno.EINVAL, errno.ENOTSUP}
"""What a file system answers that has no owners, modes or times (VFAT), and what a file's owner is told
that this process is not. The contents count more than that; a restore does not fail for it."""
_UNABLE_XATTR = _UNABLE | {errno.EACCES, errno.ENOSPC, errno.ERANGE, errno.E2BIG}


class Meta(NamedTuple):
    """What to make of a file or directory. A tuple, so that the plan can keep it as a JSON list."""

    mode: int | None
    """Permission bits with set-uid, set-gid and sticky, no file type; None leaves it."""
    uid: int
    """-1 leaves it, as in chown(2)."""
    gid: int
    mtime_ns: int | None
    """Nanoseconds since 1970, negative before; None leaves it."""


def meta_of(status: os.stat_result) -> Meta:
    return Meta(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns)


def may_chown() -> bool:
    """Whether this process can give files away: CAP_CHOWN, bit 0 of capabilities(7), root or not."""
    with open("/proc/self/status", "rb") as status:
        found = re.search(rb"^CapEff:\s*([0-9a-f]+)", status.read(), re.MULTILINE)
    return found is not None and int(found[1], 16) & 1 == 1


def set_meta(file: int | str, meta: Meta, xattrs: Mapping[str, bytes] | None = None) -> None:
    """Give an open file, or a path below /proc/self/fd, its owner, extended attributes, mode and time.

    What the file system cannot do, or is not ours to do, is left out. Raises OSError for the rest (EIO).
    """
    mode = meta.mode
    if (meta.uid, meta.gid) != (-1, -1) and not _set_owner(file, meta.uid, meta.gid) and mode is not None:
        mode &= ~_SPECIAL  # never set-uid for somebody else than was meant
    # After the owner, whose change clears set-uid, set-gid (chown(2)) and capabilities (capabilities(7)),
    # and before the mode, which may forbid attributes.
    _set_xattrs(file, xattrs or {})
    if mode is not None:
        set_mode(file, mode)
    if meta.mtime_ns is not None:
        set_mtime(file, meta.mtime_ns)


def set_link_meta(name: str, dir_fd: int, meta: Meta) -> None:
    """Give a symbolic link its owner and time; Linux knows no mode for it. Raises OSError as `set_meta`."""
    try:
        if (meta.uid, meta.gid) != (-1, -1):
            os.chown(name, meta.uid, meta.gid, dir_fd=dir_fd, follow_symlinks=False)
        if meta.mtime_ns is not None:
            os.utime(name, ns=(meta.mtime_ns, meta.mtime_ns), dir_fd=dir_fd, follow_symlinks=False)
    except OSError as error:
        _tolerate(error)


def _set_owner(file: int | str, uid: int, gid: int) -> bool:
    try:
        os.chown(file, uid, gid)
    except OSError as error:
        _tolerate(error)
        return False
    return True


def set_mode(file: int | str, mode: int) -> None:
    """As in `set_meta`."""
    try:
        os.chmod(file, mode)
    except OSError as error:
        _tolerate(error)


def set_mtime(file: int | str, mtime_ns: int) -> None:
    """As in `set_meta`."""
    try:
        os.utime(file, ns=(mtime_ns, mtime_ns))
    except OSError as error:
        _tolerate(error)


def _set_xattrs(file: int | str, xattrs: Mapping[str, bytes]) -> None:
    for name, value in xattrs.items():
        try:
            os.setxattr(file, name, value)
        except OSError as error:
            _tolerate(error, _UNABLE_XATTR)


def allowed_xattrs(xattrs: Mapping[str, bytes], special: bool) -> Mapping[str, bytes]:
    """Those to bring back: with `special` also what gives power as set-uid does (`security.capability`)."""
    if special:
        return xattrs
    return {name: xattrs[name] for name in xattrs if name.startswith(("user.", "system.posix_acl_"))}


def _tolerate(error: OSError, unable: set[int] = _UNABLE) -> None:
    if error.errno not in unable:
        raise error
