"""Mount points inside a target. Nothing can be renamed into, out of or over one."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.base.errors import IoError
from agent.base.text import readable

_LAYERED = (b"overlay", b"aufs", b"unionfs", b"mergerfs")
_ESCAPE = re.compile(rb"\\([0-7]{3})")


def mounts_below(target: Path) -> list[str]:
    """Mount points strictly below the resolved `target`, relative to it; bind mounts too."""
    top = b"" if target == Path("/") else bytes(target)
    found = {
        destination[len(top) + 1 :] for destination, _ in _mounts() if destination.startswith(top + b"/")
    } - {b""}
    return sorted(os.fsdecode(name) for name in found)


def where_mounted(path: Path) -> str:
    """The mount point that the resolved `path` is on, as ASCII text; nothing there is looked at.

    A restore that was interrupted is to be put right there, and not in the empty directory of that name.
    """
    mounts = {mount for mount, _ in _mounts()}
    found = next((each for each in map(bytes, (path, *path.parents)) if each in mounts), b"/")
    return found.decode("ascii", "backslashreplace")


def is_layered(path: Path) -> bool:
    """Whether the resolved `path` is on a file system of several layers, as containers have it.

    There a directory of a lower layer cannot be renamed (EXDEV), unless it is mounted with redirect_dir.
    """
    kinds = dict(_mounts())  # of several on one mount point the last one counts
    found = next((kinds[each] for each in map(bytes, (path, *path.parents)) if each in kinds), b"")
    return any(word in found for word in _LAYERED)


def _mounts() -> Iterator[tuple[bytes, bytes]]:
    """Yield mount points and kinds of file systems, in the order of mounting.

    From /proc/self/mountinfo, fifth field, where space, tab, newline and backslash are octal (proc(5)), and
    the first one after the dash.

    A changed st_dev would not tell a directory of the same file system that is mounted there.
    """
    with open("/proc/self/mountinfo", "rb") as table:
        for line in table:
            mount = _ESCAPE.sub(lambda octal: bytes([int(octal[1], 8)]), line.split(b" ", 5)[4])
            yield mount, line.partition(b" - ")[2].partition(b" ")[0]


def refuse_mounts(path: str, whole: bool, mounts: Sequence[str]) -> None:
    """Raise IoError when putting something at `path` meets a mount point.

    `whole`: everything below `path` goes as well, so a mount point there is in the way too.
    """
    for mount in mounts:
        if (path + "/").startswith(mount + "/") or (whole and mount.startswith(path + "/")):
            raise IoError(
                f"'{readable(mount)}' in the target is a mount point in the way of '{readable(path)}': "
                "unmount it, or restore into it by itself"
            )
