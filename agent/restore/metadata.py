"""Owner, mode, time and extended attributes of restored files.

An access control list is an extended attribute, `system.posix_acl_access` (acl(5)). The group bits of the
file's mode are the list's mask then: without the list they would give the group more than it had.
"""

import errno
import os
import re
import stat
import struct
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from agent.base.errors import IoError

SET_ID = stat.S_ISUID | stat.S_ISGID
"""The bits that lend rights. The sticky bit lends none: it protects what is in a directory."""
CAPABILITIES = "security.capability"
_UNABLE = {errno.EPERM, errno.EINVAL, errno.ENOTSUP}
"""Errors of file systems without owners, modes or times (VFAT), and of files that others own. A restore does
not fail for them: the content counts more."""
_UNABLE_XATTR = _UNABLE | {errno.EACCES, errno.ENOSPC, errno.ERANGE, errno.E2BIG, errno.ENODATA}

_RESTORED = ("user.", "system.posix_acl_")
"""Prefixes of the extended attributes that a restore sets, and removes where the archive has none."""
_MOST_XATTR_BYTES = 1 << 20
"""The room in a plan: some file systems let a user give a directory 9,000 attributes of 64 KiB."""
_ACL, _ACL_ENTRY, _ACL_GROUP = "system.posix_acl_access", struct.Struct("<HHL"), 0x04
"""Four bytes of version, then tag, permissions and id of each entry (linux/posix_acl_xattr.h)."""


class Meta(NamedTuple):
    """Metadata of a file or directory. A tuple, so that the plan can keep it as a JSON list."""

    mode: int | None
    """Permission bits with set-uid, set-gid and sticky, no file type; None leaves it."""
    uid: int
    """-1 leaves it, as in chown(2)."""
    gid: int
    mtime_ns: int | None
    """Nanoseconds since 1970, negative before; None leaves it."""
    xattrs: Mapping[str, bytes] | None = None
    """All extended attributes that a restore sets; None leaves them."""

    def to_value(self) -> list[object]:
        """Return the list that `from_value` reads, for JSON."""
        if self.xattrs is None:
            return [*self[:4]]
        return [*self[:4], {name: value.hex() for name, value in self.xattrs.items()}]

    @classmethod
    def from_value(cls, value: list[Any]) -> "Meta":
        """Raises TypeError, ValueError and AttributeError for a list that `to_value` did not make."""
        mode, uid, gid, mtime_ns, *xattrs = value
        if not xattrs:
            return cls(mode, uid, gid, mtime_ns)
        return cls(mode, uid, gid, mtime_ns, {name: bytes.fromhex(text) for name, text in xattrs[0].items()})


def meta_of(status: os.stat_result) -> Meta:
    """Return mode, owner and time; `xattrs_of` returns the rest."""
    return Meta(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns)


def xattrs_of(file: int | str) -> dict[str, bytes]:
    """Return the attributes that a restore sets, of an open file or a path below /proc/self/fd.

    Raises IoError for more than a plan has room for.
    """
    found: dict[str, bytes] = {}
    room_bytes = _MOST_XATTR_BYTES
    for name in _names_of(file):
        try:
            found[name] = os.getxattr(file, name)
        except OSError as error:  # removed meanwhile
            _tolerate(error, _UNABLE_XATTR)
        room_bytes -= len(found.get(name, b""))
        if room_bytes < 0:
            raise IoError(f"a directory in the target has over {_MOST_XATTR_BYTES} bytes of attributes")
    return found


def _names_of(file: int | str) -> list[str]:
    try:
        return [name for name in os.listxattr(file) if name.startswith(_RESTORED)]
    except OSError as error:
        _tolerate(error, _UNABLE_XATTR)  # the file system has none
        return []


def may_chown() -> bool:
    """Return True when this process has CAP_CHOWN, bit 0 of capabilities(7)."""
    with open("/proc/self/status", "rb") as status:
        found = re.search(rb"^CapEff:\s*([0-9a-f]+)", status.read(), re.MULTILINE)
    return found is not None and int(found[1], 16) & 1 == 1


def set_meta(file: int | str, meta: Meta) -> bool:
    """Give an open file, or a path below /proc/self/fd, its owner, extended attributes, mode and time.

    Metadata that the file system does not keep, or that this process may not set, is left out. Return False
    when that is the owner. Raises OSError for other errors (EIO).
    """
    mode = meta.mode
    owned = (meta.uid, meta.gid) == (-1, -1) or _tried(os.chown, file, meta.uid, meta.gid)
    if not owned and mode is not None:
        mode &= ~SET_ID  # never set-uid for another owner
    # After the owner, whose change clears set-uid, set-gid (chown(2)) and capabilities (capabilities(7)), and
    # before the mode, which may forbid attributes, and whose group bits are the list's mask.
    if meta.xattrs is not None:
        has_acl = _set_xattrs(file, meta.xattrs)
        if mode is not None and not has_acl and _ACL in meta.xattrs:
            mode &= ~stat.S_IRWXG | _group_bits(meta.xattrs[_ACL])
    if mode is not None:
        _tried(os.chmod, file, mode)
    if meta.mtime_ns is not None:
        _tried(os.utime, file, ns=(meta.mtime_ns, meta.mtime_ns))
    return owned


def set_link_meta(name: str, dir_fd: int, meta: Meta) -> bool:
    """Give a symbolic link its owner and time; Linux knows no mode for it. Otherwise as `set_meta`."""
    link = partial(_tried, dir_fd=dir_fd, follow_symlinks=False)
    owned = (meta.uid, meta.gid) == (-1, -1) or link(os.chown, name, meta.uid, meta.gid)
    if meta.mtime_ns is not None:
        link(os.utime, name, ns=(meta.mtime_ns, meta.mtime_ns))
    return owned


def set_mode(file: int | str, mode: int) -> None:
    """Set the mode, as `set_meta` does."""
    _tried(os.chmod, file, mode)


def set_mtime(file: int | str, mtime_ns: int) -> None:
    """Set the time, as `set_meta` does."""
    _tried(os.utime, file, ns=(mtime_ns, mtime_ns))


def _set_xattrs(file: int | str, xattrs: Mapping[str, bytes]) -> bool:
    """Set these attributes and remove others; return True when the access control list was set."""
    change = partial(_tried, unable=_UNABLE_XATTR)
    for name in _names_of(file):
        if name not in xattrs:
            change(os.removexattr, file, name)
    done = {name: change(os.setxattr, file, name, value) for name, value in xattrs.items()}
    return done.get(_ACL, False)


def _group_bits(acl: bytes) -> int:
    """Return the rights of the file's own group in a list, as bits of a mode for a file without lists."""
    entries = acl[4 : 4 + (len(acl) - 4) // _ACL_ENTRY.size * _ACL_ENTRY.size]
    return sum({(right & 7) << 3 for tag, right, _ in _ACL_ENTRY.iter_unpack(entries) if tag == _ACL_GROUP})


def allowed_xattrs(xattrs: Mapping[str, bytes], special: bool) -> Mapping[str, bytes]:
    """Return the attributes that are restored: `security.capability`, which gives power, with `special`."""
    if special:
        return xattrs
    return {name: xattrs[name] for name in xattrs if name.startswith(_RESTORED)}


def _tried(call: Callable[..., None], *arguments: Any, unable: set[int] = _UNABLE, **options: Any) -> bool:
    """Make a system call; return False for an error that is tolerated. Raises OSError for others."""
    try:
        call(*arguments, **options)
    except OSError as error:
        _tolerate(error, unable)
        return False
    return True


def _tolerate(error: OSError, unable: set[int]) -> None:
    if error.errno not in unable:
        raise error
