"""Mount points of the device: where they are, and what is mounted there."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_NUMBERED_ANEW = (b"fat", b"fuse", b"overlay", b"aufs", b"unionfs", b"mergerfs")
_LAYERED = (b"overlay", b"aufs", b"unionfs", b"mergerfs")
_KERNEL_S_OWN = frozenset(
    b"proc sysfs cgroup cgroup2 cpuset devpts devtmpfs debugfs tracefs securityfs selinuxfs smackfs configfs"
    b" bpf pstore mqueue efivarfs binfmt_misc fusectl rpc_pipefs nfsd hugetlbfs functionfs".split()
)
_ESCAPE = re.compile(rb"\\([0-7]{3})")


class _Mount(NamedTuple):
    """A line of /proc/self/mountinfo."""

    path: bytes
    kind: bytes
    """Of the file system."""
    device: bytes
    """The file system itself."""
    source: bytes
    """The directory of the file system that is mounted: not "/" for a bind mount."""


def mounts_below(target: Path) -> list[str]:
    """Return mount points strictly below the resolved `target`, relative to it; bind mounts too."""
    top = b"" if target == Path("/") else bytes(target)
    found = {each.path[len(top) + 1 :] for each in _mounts() if each.path.startswith(top + b"/")} - {b""}
    return sorted(os.fsdecode(name) for name in found)


def kernel_mounts_below(target: Path) -> frozenset[str]:
    """Return those of `mounts_below` that show the kernel's own state: nobody can save or restore it."""
    kinds = {each.path: each.kind for each in _mounts()}
    return frozenset(
        name for name in mounts_below(target) if kinds.get(bytes(target / name)) in _KERNEL_S_OWN
    )


def where_mounted(path: Path) -> str:
    """Return the mount point that the resolved `path` is on, as ASCII text, without touching it.

    An interrupted restore is recovered only while this is mounted, not in the empty directory below.
    """
    return _mount_of(path).path.decode("ascii", "backslashreplace")


def is_layered(path: Path) -> bool:
    """Return True when the resolved `path` is on a file system of several layers, as containers have it.

    There a directory of a lower layer cannot be renamed (EXDEV), unless it is mounted with redirect_dir.
    """
    return any(word in _mount_of(path).kind for word in _LAYERED)


def keeps_inodes(path: Path) -> bool:
    """Return True when the file system of the resolved `path` gives a file its inode number for good.

    VFAT has none, and file systems of several layers or in user space may give other numbers each time.
    """
    return not any(word in _mount_of(path).kind for word in _NUMBERED_ANEW)


def overlap(mount: Path, other: Path) -> bool:
    """Return True when one of the two resolved paths is or holds the other by another name: a bind mount.

    A directory below `other` that is mounted in its own place has no other name there.
    """
    (device, here), (other_device, there) = _origin(mount), _origin(other)
    if device != other_device:
        return False
    if mount.is_relative_to(other) and here == there + bytes(mount.relative_to(other)) + b"/":
        return False
    return here.startswith(there) or there.startswith(here)


def _origin(path: Path) -> tuple[bytes, bytes]:
    """Return the file system, and the path in it with a slash at the end."""
    mount = _mount_of(path)
    inside = bytes(path)[len(mount.path.rstrip(b"/")) :].strip(b"/")
    return mount.device, b"".join(part + b"/" for part in (mount.source.strip(b"/"), inside) if part)


def _mount_of(path: Path) -> _Mount:
    mounts = {each.path: each for each in _mounts()}  # of several on one mount point the last one counts
    found = (mounts[each] for each in map(bytes, (path, *path.parents)) if each in mounts)
    return next(found, _Mount(b"/", b"", b"", b"/"))


def _mounts() -> Iterator[_Mount]:
    """Yield the mounts in the order of mounting. The table writes blanks and backslashes in octal (proc(5)).

    Device numbers would not show a bind mount within one file system.
    """
    with open("/proc/self/mountinfo", "rb") as table:
        for line in table:
            _, _, device, source, path, _ = line.split(b" ", 5)
            kind = line.partition(b" - ")[2].partition(b" ")[0]
            yield _Mount(_unescaped(path), kind, device, _unescaped(source))


def _unescaped(text: bytes) -> bytes:
    return _ESCAPE.sub(lambda octal: bytes([int(octal[1], 8)]), text)
