"""A target directory that is not there yet."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from agent.base.errors import disk_errors
from agent.base.identity import open_resolved
from agent.base.text import readable


def missing(path: Path) -> list[Path]:
    """The directories that `make_target` would make, outermost first: to be remembered before it does."""
    absent = [destination for destination in (path, *path.parents) if not os.path.lexists(destination)]
    return absent[::-1]


def make_target(path: Path) -> list[Path]:
    """Make the resolved directory `path` and its missing parents; return those that were made.

    The parents have mode 0755; `path` is private until a restore is complete, which gives it its own.
    Never follows a link that appeared since. Raises IoError or NoSpace; nothing is left then.
    """
    made: list[Path] = []
    with disk_errors(f"cannot make the directory '{readable(str(path))}'"):
        try:
            for destination in missing(path):
                _make(destination, 0o700 if destination == path else 0o755)
                made.append(destination)
        except OSError:
            remove_made(made)
            raise
    return made


def _make(path: Path, mode: int) -> None:
    parent_fd = open_resolved(path.parent)
    try:
        os.mkdir(path.name, mode, dir_fd=parent_fd)
        os.fsync(parent_fd)
    finally:
        os.close(parent_fd)


def remove_made(paths: Iterable[Path]) -> None:
    """Remove those of the directories that are empty, innermost first, durably. What cannot go, stays.

    A link that appeared since is not followed.
    """
    for path in sorted(paths, key=lambda path: len(path.parts), reverse=True):
        with suppress(OSError):
            parent_fd = open_resolved(path.parent)
            try:
                os.rmdir(path.name, dir_fd=parent_fd)
                os.fsync(parent_fd)
            finally:
                os.close(parent_fd)
