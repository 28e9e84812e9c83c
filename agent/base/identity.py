"""Files and directories by device and inode number: the identity that no renaming changes."""

import os
from pathlib import Path

FileIdentity = tuple[int, int]


def identity(status: os.stat_result) -> FileIdentity:
    return status.st_dev, status.st_ino


def identity_of(path: Path) -> FileIdentity | None:
    """Return the identity of what a path leads to; None when it is missing or cannot be read."""
    try:
        return identity(path.stat())
    except OSError:
        return None


def open_parent(fd: int, expected: FileIdentity) -> int:
    """Return a descriptor of the directory above `fd`, or -1: somebody may have moved `fd` elsewhere."""
    try:
        parent = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    except OSError:
        return -1
    if identity(os.fstat(parent)) == expected:
        return parent
    os.close(parent)
    return -1


def below(directory: Path, paths: tuple[Path, ...]) -> list[str]:
    """Return the names, relative to `directory`, of those `paths` that lie below it.

    By the identity of every directory on the way, so that a bind mount is seen through.
    """
    top, names = identity_of(directory), []
    for path in paths:
        resolved = Path(os.path.realpath(path))
        for above in resolved.parents:
            if top and identity_of(above) == top:
                names.append(str(resolved.relative_to(above)))
                break
    return names
